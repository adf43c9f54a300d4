//! The workspace's own commands: `cargo xtask WORD`.
//!
//! A word is one row of the table in `words.rs`. The modules below it, from the bottom up:
//!
//! ```text
//! workspace  process  os  version      where we are; running programs; /etc/os-release; "4.1.1"
//! misunderstood                        the error of a wrong command line
//! apt  loader  prefix                  packages from the machine's mirror; unpacked so that they run
//! criu  runtimes  programs             which criu is good enough; what else the tests execute
//! setup      steps  session            put it all there; named steps; a session of their own for tests
//! demo  test  vm  fuzz  torture  asan  deny  msrv  ci  codegen  bindings    the words
//! architecture                         the rooms of each crate, and what they import
//! ```

#[cfg(feature = "architecture")]
pub mod architecture;
#[cfg(feature = "codegen")]
pub mod codegen;

pub mod bindings;

mod apt;
mod asan;
mod ci;
mod criu;
mod demo;
mod deny;
mod evidence;
mod fuzz;
mod loader;
mod misunderstood;
mod msrv;
mod os;
mod package;
mod prefix;
mod process;
mod programs;
mod runtimes;
mod session;
mod setup;
mod steps;
mod test;
mod torture;
mod version;
mod vm;
mod words;
mod workspace;

pub use words::main;

/// What every word returns. The messages are for a person: what was tried, what came back, what to do.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
