//! Restores: from a dump, or a state made by hand, to the region's own.

mod catch_up;
