"""Archives of images (PACS): find, fetch and store over DICOMweb or DIMSE."""

from multiorganseg.pacs.address import Address, is_address, parse_address
from multiorganseg.pacs.archive import Archive, Query, RemoteSeries, open_archive

__all__ = ["Address", "Archive", "Query", "RemoteSeries", "is_address", "open_archive", "parse_address"]
