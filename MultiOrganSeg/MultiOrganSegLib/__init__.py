"""The Slicer side of MultiOrganSeg: parameters, panels, jobs, and the way between MRML and volumes."""
