//! The workspace's own commands: `cargo xtask WORD`.
//!
//! A word is a row of the table in `words.rs`. The modules below it, from the bottom up:
//!
//! ```text
//! workspace  process  os  version    folders; programs that run; /etc/os-release; "4.1.1"
//! misunderstood                      the error of a wrong command line
//! apt  loader  prefix                packages from the machine's mirror, unpacked so that they run
//! session  evidence                  a session for tests; a small dump that shows a criu works
//! criu  runtimes  engines  programs  the criu that is chosen; other programs of the tests
//! python                             a gRPC for the tests that is not this project's
//! setup  steps                       installs all of that; named steps with their progress
//! demo  test  suite  vm  fuzz  torture  attack  lazy  instant  asan  deny            the words
//! msrv  package  features  ci                                                         more words
//! codegen  bindings                  words, too: they make files of the project
//! architecture                       the rooms of each crate, and what they import
//! ```

#[cfg(feature = "architecture")]
pub mod architecture;
#[cfg(feature = "codegen")]
pub mod codegen;

pub mod bindings;

mod apt;
mod asan;
mod attack;
mod ci;
mod criu;
mod demo;
mod deny;
mod engines;
mod evidence;
mod features;
mod fuzz;
mod instant;
mod lazy;
mod loader;
mod misunderstood;
mod msrv;
mod os;
mod package;
mod prefix;
mod process;
mod programs;
mod python;
mod runtimes;
mod session;
mod setup;
mod steps;
mod suite;
mod test;
mod torture;
mod version;
mod vm;
mod words;
pub mod workspace;

pub use words::main;

/// The result of every word. Errors are for a person: the attempt, its result, and what to do.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
