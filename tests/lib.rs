//! Stories of a whole farm, told with real binaries: see `farm/`.
