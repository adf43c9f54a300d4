//! Archives that are unpacked in order, and spools.
