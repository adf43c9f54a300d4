//! The program `criu-cri-proxy`.

fn main() -> std::process::ExitCode {
    criu_cli::criu_cri_proxy()
}
