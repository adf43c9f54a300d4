//! `dump` as a program of its own.

fn main() -> std::process::ExitCode {
    criu_cli::one("dump")
}
