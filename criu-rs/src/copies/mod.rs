//! Copies: several restores of one snapshot, side by side.
//!
//! Each copy has namespaces of its own ([`Space`]), because CRIU gives tasks the process ids of the
//! images. Each has an [`Identity`] of its own, of which the program learns while it is still held:
//! an [`Arrival`] puts the identity into a file that only this copy sees, sets the hostname, and
//! sends the signal that was chosen at the dump ([`CopyNotice`](crate::CopyNotice)).
//!
//! ```text
//!   dump ── CopyNotice ──▶ images ──▶ first process of a pid namespace: Space
//!                                        └─ Restore with Arrival: hostname, file, signal
//! ```

mod arrival;
mod findings;
mod identity;
mod place;
mod space;

pub use arrival::Arrival;
pub use identity::Identity;
pub use space::Space;
