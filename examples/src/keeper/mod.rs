//! `pre-dump --instant`: rounds of a series, each made by a program of its own.
//!
//! The base of the next round is in the forks of the last one, and these end with the program that
//! made them. So this program goes on in the background after a round, as the *keeper* of the
//! forks, until the next round is complete.
//!
//! ```text
//! pre-dump -D 1            pre-dump -D 2 --prev-images-dir ../1
//!   start  ── round           start  ── round: asks the keeper of 1 which forks it has,
//!               │                         │    compares them with its own
//!             serve: keeper ◀──"complete"─┤
//!               └ ends its forks        serve: keeper of 2
//! ```
//!
//! ```text
//! start   the foreground, which waits for the round
//! round   the round, in the process that then stays
//! serve   the keeper: waits for the next round, or for a reason to end
//! asked   the question to a keeper, its answer, and who may ask
//! file    the file that leads to a keeper
//! last    the dump that follows
//! ```

mod asked;
mod file;
mod last;
mod round;
mod serve;
mod start;

pub(crate) use asked::Earlier;
pub(crate) use last::Stopped;
pub(crate) use round::keep;
pub(crate) use start::{Foreground, begin};
