//! The program `criu-rs`.

fn main() -> std::process::ExitCode {
    criu_cli::criu_rs()
}
