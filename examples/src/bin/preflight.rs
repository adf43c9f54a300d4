//! `preflight` as a program of its own.

fn main() -> std::process::ExitCode {
    criu_examples::one("preflight")
}
