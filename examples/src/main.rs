//! All programs in one, in the place of `criu`.

fn main() -> std::process::ExitCode {
    criu_cli::criu_rs()
}
