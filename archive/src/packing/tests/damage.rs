//! Archives that are damaged, or lie.
