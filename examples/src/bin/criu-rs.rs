//! All programs in one, in the place of `criu`.

fn main() -> std::process::ExitCode {
    criu_examples::criu_rs()
}
