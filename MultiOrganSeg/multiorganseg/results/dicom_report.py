"""Measurements as a DICOM structured report of template TID 1500, which refers to the segments of a SEG."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multiorganseg import __version__
from multiorganseg.atomic import atomic_path
from multiorganseg.errors import VolumeError
from multiorganseg.organs.catalogue import Catalogue
from multiorganseg.results.dicom_identity import leave_out_identity
from multiorganseg.results.dicom_seg import LONGEST_LO, completed, concept, match_slices, need_highdicom
from multiorganseg.results.segmentation import ALGORITHM_NAME, Author, Segmentation
from multiorganseg.results.segments import Segment, model_title, segments_of
from multiorganseg.volumes.dicom_header import open_dicom

if TYPE_CHECKING:
    from pydicom import Dataset

SERIES_NUMBER = 9002
OWN_SCHEME = "99MULTIORGANSEG"
"""Designator of the codes that no dictionary has: the network's confidence, and what to look at."""


_LONGEST_SH = 16
_SIDES = ("7771000", "24028007", "51440002")
_PROCEDURES = {
    "CT": ("25045-6", "LN", "CT unspecified body region"),
    "MR": ("25056-3", "LN", "MRI unspecified body region"),
}


def write_dicom_report(
    segmentation: Segmentation,
    path: Path,
    catalogue: Catalogue,
    dicom_files: Sequence[Path],
    seg_file: Path,
    *,
    modality: str = "CT",
    series_uid: str = "",
) -> None:
    """Write volume (mL), mean attenuation (HU, of a CT), confidence and flags of each segment.

    One group of measurements (TID 1411) for each segment of the SEG that was measured. The report is complete
    and not verified: nobody has signed it. Of the patient and the study it says what DICOM requires.

    Args:
        segmentation: What was written to `seg_file`, with its statistics.
        path: The file, usually `.sr.dcm`.
        catalogue: Gives names and codes.
        dicom_files: Slices of the series, see `write_dicom_seg`.
        seg_file: The DICOM SEG that the report speaks of.
        modality: Of the images; decides whether a mean intensity is in HU, and so said.
        series_uid: Of the report's series; a new one when empty.

    Raises:
        DependencyError: highdicom is not installed.
        OrganError: The table names an organ that the catalogue lacks.
        ResourceError: The file cannot be written.
        VolumeError: The files are not the series of this grid, or their headers are not valid.
    """
    highdicom = need_highdicom()
    sources = [completed(each, segmentation.grid) for each in match_slices(segmentation.grid, dicom_files)]
    seg = open_dicom(seg_file)
    measured = {segment.organ.key: segment for segment in segments_of(segmentation, catalogue)}
    try:
        assert seg is not None
        groups = [
            _group(item, seg, sources[0], measured[key], catalogue, modality)
            for item in seg.SegmentSequence
            if (key := str(item.TrackingID).partition(" ")[2]) in measured and measured[key].statistics
        ]
        content = highdicom.sr.MeasurementReport(
            observation_context=_observer(segmentation),
            procedure_reported=highdicom.sr.CodedConcept(*_PROCEDURES.get(modality, _PROCEDURES["CT"])),
            imaging_measurements=groups,
            title=highdicom.sr.CodedConcept("126000", "DCM", "Imaging Measurement Report"),
        )
        report = highdicom.sr.ComprehensiveSR(
            evidence=[seg, *sources],
            content=content,
            series_instance_uid=series_uid or highdicom.UID(),
            series_number=SERIES_NUMBER,
            sop_instance_uid=f"{series_uid}.1" if series_uid else highdicom.UID(),
            instance_number=1,
            manufacturer="MultiOrganSeg",
            manufacturer_model_name=(model_title(segmentation.provenance) or "MultiOrganSeg")[:LONGEST_LO],
            software_versions=__version__,
            device_serial_number=__version__,
            is_complete=True,
        )
        report.SeriesDescription = "MultiOrganSeg measurements"
        leave_out_identity(report, sources[0])
        written = io.BytesIO()
        report.save_as(written, enforce_file_format=True)
    except Exception as error:  # highdicom and pydicom let errors of any type escape from invalid headers
        msg = f"No structured report was written to {path}."
        raise VolumeError(
            msg,
            cause=f"The headers of the series are not valid: {type(error).__name__}: {error}",
            next_step="Have them mended, or take the measurements from .statistics.csv.",
        ) from error
    with atomic_path(path) as partial:
        partial.write_bytes(written.getbuffer())


def _observer(segmentation: Segmentation) -> Any:
    from highdicom import UID, sr

    attributes = sr.DeviceObserverIdentifyingAttributes(
        uid=UID(),
        name=ALGORITHM_NAME,
        manufacturer_name=ALGORITHM_NAME,
        model_name=model_title(segmentation.provenance)[:LONGEST_LO] or ALGORITHM_NAME,
        serial_number=__version__,
    )
    context = sr.ObserverContext(sr.CodedConcept("121007", "DCM", "Device"), attributes)
    return sr.ObservationContext(observer_device_context=context)


def _group(
    item: Dataset,
    seg: Dataset,
    source: Dataset,
    segment: Segment,
    catalogue: Catalogue,
    modality: str,
) -> Any:
    from highdicom import sr

    statistics, organ = segment.statistics, segment.organ
    assert statistics is not None
    algorithm = None
    if segment.author is not Author.PEOPLE:
        algorithm = sr.AlgorithmIdentification(ALGORITHM_NAME, __version__)
    measurements = [
        sr.Measurement(
            sr.CodedConcept("118565006", "SCT", "Volume"),
            round(statistics.volume_ml, 3),
            sr.CodedConcept("mL", "UCUM", "mL"),
        )
    ]
    if modality == "CT" and math.isfinite(statistics.mean_intensity):
        measurements.append(
            sr.Measurement(
                sr.CodedConcept("112031", "DCM", "Attenuation Coefficient"),
                round(statistics.mean_intensity, 1),
                sr.CodedConcept("[hnsf'U]", "UCUM", "Hounsfield unit"),
                derivation=sr.CodedConcept("373098007", "SCT", "Mean"),
            )
        )
    if math.isfinite(statistics.confidence) and segment.author is Author.NETWORK:
        measurements.append(
            sr.Measurement(
                sr.CodedConcept("confidence", OWN_SCHEME, "Mean probability of the network"),
                round(statistics.confidence, 4),
                sr.CodedConcept("1", "UCUM", "no units"),
            )
        )
    noticed = [
        sr.QualitativeEvaluation(
            sr.CodedConcept("flag", OWN_SCHEME, "To look at"),
            sr.CodedConcept(flag[:_LONGEST_SH], OWN_SCHEME, flag.replace("_", " ")),
        )
        for flag in statistics.flags
    ]
    place = organ.within or organ.key
    region = catalogue.get(place)
    sites = []
    if region.category and region.type:
        modifier = concept(region.modifier) if region.modifier else None
        is_side = region.modifier is not None and region.modifier.value in _SIDES
        sites = [sr.FindingSite(concept(region.type), *((modifier,) if is_side else (None, modifier)))]
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        sr.TrackingIdentifier(uid=str(item.TrackingUID), identifier=str(item.TrackingID)),
        referenced_segment=sr.ReferencedSegment(
            str(seg.SOPClassUID),
            str(seg.SOPInstanceUID),
            int(item.SegmentNumber),
            source_series=sr.SourceSeriesForSegmentation(str(source.SeriesInstanceUID)),
        ),
        finding_category=concept(segment.category),
        finding_type=concept(segment.type),
        finding_sites=sites or None,
        algorithm_id=algorithm,
        measurements=measurements,
        qualitative_evaluations=noticed or None,
    )
