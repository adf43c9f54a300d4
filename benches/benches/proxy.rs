//! The cost of a call through `criu-cri-proxy` beside a direct call to containerd.
//!
//! Calls of both kinds alternate, one at a time, so that both meet the same load. containerd runs
//! in a sandbox; needs root and the programs of `cargo xtask setup --tests`.

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use criu_cri::proxy::{Listening, Proxy};
use criu_lab::cgroups::Layout;
use criu_lab::containers::{Bed, Case, Suite};
use criu_lab::engines::{Caller, Containerd, Podman};
use criu_lab::registry::Registry;
use criu_lab::sandbox;
use criu_rs::{Criu, Pid};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let suite = Suite {
        tests: vec![Case { name: NAME, test: measure, runtimes: &["runc"], newest_only: true }],
        criu: |path| Criu::at(path),
        version: |criu| criu.version().map_err(|error| error.to_string()),
    };
    if words.get(1).is_some_and(|word| word == sandbox::FIRST || word == "--one") {
        return suite.main(&words).unwrap_or(ExitCode::FAILURE);
    }
    let measured = criu_benches::crius().map_err(|error| error.to_string()).and_then(|crius| {
        let (_, criu) = crius.into_iter().next_back().ok_or("no CRIU")?;
        let words = ["--one", NAME, "runc", &criu.display().to_string()].map(str::to_owned);
        sandbox::run(&words, Layout::Machine, LIMIT)
    });
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a table of all methods.
fn measure(bed: &Bed<Pid, Criu>) {
    let registry = Registry::start(&bed.dir("registry"));
    let podman = Podman::new(bed);
    let image = podman.push(&registry);
    let engine = Containerd::start(bed, &podman.push_pause(&registry));
    engine.pull(&image).expect("an image");
    let pod = engine.pod("pod");
    for number in 0..CONTAINERS {
        pod.run(&format!("c{number}"), &image, &[]).expect("a container");
    }
    let (socket, direct) = (bed.dir("proxy").join("cri.sock"), engine.socket());
    let proxied = socket.clone();
    // As in the program: a thread with a runtime of its own.
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let listening = Listening::bind(&socket).expect("a socket");
        let proxy = Proxy::new(direct).run(listening, std::future::pending());
        runtime.expect("a runtime").block_on(proxy)
    });
    assert!(criu_lab::soon(|| proxied.exists()), "the proxy does not listen");
    let callers = [&engine.socket(), &proxied].map(|socket| Caller::new(socket).expect("a server"));
    println!("| call | direct: median, p99 | through the proxy | more: median, p99 |");
    println!("| --- | --- | --- | --- |");
    for (name, method) in METHODS {
        let [direct, proxied] = times(&callers, method);
        let show = |(median, p99): (f64, f64)| format!("{median:.3} ms, {p99:.3} ms");
        let more = (proxied.0 - direct.0, proxied.1 - direct.1);
        println!("| {name} | {} | {} | {} |", show(direct), show(proxied), show(more));
    }
}

/// Returns the median and the 99th percentile of both callers' calls, in milliseconds.
fn times(callers: &[Caller; 2], method: &str) -> [(f64, f64); 2] {
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..CALLS + WARM {
        for (caller, times) in callers.iter().zip(&mut times) {
            let begun = Instant::now();
            caller.call(method).expect("an answer");
            if round >= WARM {
                times.push(begun.elapsed());
            }
        }
    }
    times.map(|mut times| {
        times.sort();
        let at = |part: usize| {
            let time = times.get(times.len() * part / 100).copied().unwrap_or_default();
            time.as_secs_f64() * 1000.0
        };
        (at(50), at(99))
    })
}

/// The methods, with a list of [`CONTAINERS`].
const METHODS: [(&str, &str); 2] = [
    ("`Version`", "/runtime.v1.RuntimeService/Version"),
    ("`ListContainers`", "/runtime.v1.RuntimeService/ListContainers"),
];

const NAME: &str = "proxy_cost";

/// Calls of each kind.
const CALLS: usize = 5000;

/// Calls before, which do not count.
const WARM: usize = 200;

/// Containers that run.
const CONTAINERS: usize = 10;

/// Time for everything.
const LIMIT: Duration = Duration::from_secs(300);
