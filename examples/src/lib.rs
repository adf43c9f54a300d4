//! The program `criu-rs`: one word for each thing a person does with CRIU; and `criu-cri-proxy`.
//!
//! The library under it is the crate `criu-rs`; this crate's own functions are for its program and
//! its short examples, and change with them.
//!
//! ```text
//! words           the table of words
//! program         words that take criu's options: `getopt`, `foreign`, clap, the `options`
//! dump  pre_dump  restore  start  check  preflight  page_server  lazy_pages
//! tool            words that clap reads; `work` that takes long, `keys` of encrypted archives
//! archive  container  inspect  pod  kubelet  crit  links  shell
//!                 `runtime_args`: options of runc and crun
//! drive           runs an operation: `signals`, `progress`, `ticking`; `parent` stays with a
//!                 restored tree
//! output  fault   the outcome; `exit` codes, `hints`, and mistakes in `usage`
//! stdout          standard output whose lost text is an error; `stdout_log`, CRIU's log there
//! descriptors     the descriptors that other programs get
//! instant         memory that is read while the tasks of a dump run on; `keeper` of its forks
//! later           memory that comes after a restore; `working_set`, its pages that come first;
//!                 `marks` of pages that may come later
//! serving         parts of words that go on as servers
//! confine         rights that a server gives up
//! places          directories that are made, and those that others can write
//! numbers         that name directories of sessions and rounds
//! new_file        files that appear when they are complete; `target`, where an output goes
//! cri             pods and containers of an engine that Kubernetes uses
//! cri_proxy       the program `criu-cri-proxy`
//! settings        options from CRIU's configuration files
//! push  pull      images in registries and layouts: `remote` opens them
//! held            images that CRIU restores from, laid out of an archive
//! images          sets of images as `crit` and `inspect` take them
//! ```

mod archive;
mod check;
mod config;
mod confine;
mod container;
mod coordinator;
mod cri;
mod cri_proxy;
mod crit;
mod descriptors;
mod drive;
mod dump;
mod exit;
mod fault;
mod fd;
mod foreign;
mod getopt;
mod held;
mod hints;
mod images;
mod inspect;
mod instant;
mod keeper;
mod keys;
mod kubelet;
mod later;
mod lazy_pages;
mod links;
mod marks;
mod new_file;
mod numbers;
mod options;
mod output;
mod own;
mod packed;
mod page_server;
mod parent;
mod places;
mod pod;
mod pre_dump;
mod preflight;
mod program;
mod progress;
mod pull;
mod push;
mod remote;
mod restore;
mod runtime_args;
mod serving;
mod settings;
mod shell;
mod shown;
mod signals;
mod start;
mod state;
mod stdout;
mod stdout_log;
mod target;
mod ticking;
mod tool;
mod usage;
mod word;
mod words;
mod work;
mod working_set;

pub use cri_proxy::criu_cri_proxy;
pub use exit::{Codes, Exit};
pub use fault::Fault;
pub use options::criu_program;
pub use output::Output;
pub use signals::Pause;
pub use words::criu_rs;
