//! The report, opened in a real browser: `cargo xtask setup --tests` installs Chromium.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod browser;
#[allow(unexpected_cfgs, reason = "the features of criu-images")]
#[path = "../../../images/tests/common/mod.rs"]
mod common;
mod scene;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use browser::{Page, corner};
use common::scratch;
use criu_archive::inspection::Part;
use scene::{changed, hostile, pipeline, report, two_thousand};

#[test]
fn a_page_shows_what_the_checkpoint_has() {
    let directory = scratch("report-pipeline");
    let html = report(&pipeline(), &directory, Part::ALL);
    let page = Page::open(&directory, &html, "");
    assert_eq!(page.console, [] as [&str; 0]);
    assert_eq!(page.title, "Checkpoint of sh (pid 10139)");
    let counts = ["processes", "memory", "files", "sockets", "namespaces", "security"];
    assert_eq!(counts.map(|section| page.count(section)), ["3", "70", "10", "0", "8", "1"]);
    let tree = page.between("role=\"treegrid\"", "</table>");
    assert_eq!(tree.matches("aria-level=\"2\"").count(), 2);
    assert!(tree.contains("aria-expanded=\"true\""), "{tree}");
    // The map has a box for each mapping of the root, and cells where the pages are.
    let map = page.between("class=\"map\"", "class=\"told\"");
    assert_eq!(map.matches("<button").count(), 24);
    let heap = map.split("<button").find(|one| one.contains("[heap]")).unwrap();
    assert!(heap.contains("class=\"p\" style=\"flex-grow: 2;\""), "{heap}");
    assert!(heap.contains("class=\"z\" style=\"flex-grow: 31;\""), "{heap}");
    assert!(page.dom.contains("Environments of the processes are left out"));
}

#[test]
fn links_filter_and_choose() {
    let directory = scratch("report-links");
    let html = report(&pipeline(), &directory, Part::ALL);
    let [page, anonymous, sleep] = Page::follow(
        &directory,
        &html,
        ["#pid-10142&q=hostname", "#q=HEAP%20anonymous", "#q=HEAP%20sleep"],
    );
    assert_eq!(page.console, [] as [&str; 0]);
    let counts = ["processes", "memory", "files", "namespaces"];
    assert_eq!(counts.map(|section| page.count(section)), ["0/3", "0/70", "1/10", "0/8"]);
    assert!(page.dom.contains("/etc/<mark>hostname</mark>"));
    assert!(page.between("id=\"found\"", "</p>").ends_with("1 row found"));
    assert!(page.between("aria-label=\"The chosen process\"", "</h3>").contains("pid 10142"));
    // All words must fit, in any case.
    assert_eq!(anonymous.count("memory"), "0/70");
    assert_eq!(sleep.count("memory"), "1/70");
}

#[test]
fn the_theme_is_the_system_s_or_the_reader_s() {
    let directory = scratch("report-theme");
    let html = report(&pipeline(), &directory, Part::ALL);
    let (light, dark) = ([0xff; 3], [0x1b, 0x1f, 0x23]);
    assert_eq!(corner(&directory, &html, "", "light"), light);
    assert_eq!(corner(&directory, &html, "", "dark"), dark);
    assert_eq!(corner(&directory, &html, "#theme=dark", "light"), dark);
}

#[test]
fn keys_lead_through_the_page() {
    let directory = scratch("report-keys");
    let html = report(&pipeline(), &directory, Part::ALL);
    let script = r#"
        const at = () => document.activeElement;
        const steps = [];
        const press = (key) => {
            at().dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true }));
            steps.push(at().id || at().dataset.pid || at().className);
        };
        const type = (text) => {
            at().value = text;
            at().dispatchEvent(new Event('input', { bubbles: true }));
        };
        press('/');
        type('10142');
        press('Enter');
        press('Enter');
        press('Escape');
        press('Escape');
        steps.push(byId('filter').value);
        for (const key of ['ArrowUp', 'ArrowLeft', 'ArrowLeft', 'ArrowRight', 'End']) {
            press(key);
            steps.push(document.querySelector('[role=treegrid] tbody').rows.length);
        }
        press('/');
        type('hostname');
        press('Enter');
        steps.push(at().getAttribute('aria-label'));
        press('Escape');
        const box = document.querySelector('.map button');
        box.focus();
        press('ArrowRight');
        steps.push(document.querySelector('.told').textContent.startsWith(at().ariaLabel.split(', ')[0]));
        return steps.join(' ');"#;
    let (page, steps) = Page::with_script(&directory, &html, 1280, script);
    assert_eq!(page.console, [] as [&str; 0]);
    // The second of two presses of Esc leads from the pane back to the tree.
    let tree = "filter 10142 pane pane 10142  10141 3 10139 3 10139 1 10139 3 10142 3";
    assert_eq!(steps, format!("{tree} filter box Open files box code true"));
}

#[test]
fn nothing_is_wider_than_the_window() {
    let directory = scratch("report-narrow");
    let long = "long".repeat(500);
    let html = changed(|inspection| {
        let files = inspection.open_files.as_mut().unwrap();
        files.tasks[0].fds[0].description = format!("/{long}");
        let processes = &mut inspection.ps.as_mut().unwrap().processes;
        processes[0].arguments = Some(vec![format!("/{long}"), long.clone()]);
        let findings = &mut inspection.findings;
        findings.extend(findings.first().cloned());
        findings.iter_mut().for_each(|finding| finding.place = long.clone());
    });
    let script = "
        const root = document.documentElement;
        const wide = [root, ...document.querySelectorAll('section, .box, .pane, dl')]
            .filter((node) => node.scrollWidth > node.clientWidth + 1);
        return wide.map((node) => `${node.outerHTML.slice(0, 90)} ${node.scrollWidth}`).join();";
    for width in [390, 500, 1280] {
        let (page, wide) = Page::with_script(&directory, &html, width, script);
        assert_eq!((&*wide, page.console), ("", Vec::new()), "{width}");
    }
}

#[test]
fn a_hundred_thousand_files_and_a_long_command_line_are_cut_and_counted() {
    let directory = scratch("report-long");
    let html = changed(|inspection| {
        let processes = &mut inspection.ps.as_mut().unwrap().processes;
        processes[0].arguments = Some(vec!["a".repeat(1 << 20)]);
        processes[1].arguments = Some(vec!["word".to_owned(); 100_000]);
        let fds = &mut inspection.open_files.as_mut().unwrap().tasks[0].fds;
        let model = fds[0].clone();
        *fds = (0..100_000)
            .map(|fd| {
                let mut row = model.clone();
                (row.fd, row.description) = (fd, format!("/srv/{fd:06}/{}", "n".repeat(500)));
                row
            })
            .collect();
    });
    assert!(html.len() < 64 << 20, "{} bytes", html.len());
    let page = Page::open(&directory, &html, "#q=005999");
    assert_eq!(page.console, [] as [&str; 0]);
    assert_eq!(page.count("files"), "1/100,006");
    assert!(page.dom.contains("more rows do not fit into this report"));
    // The first process is chosen.
    assert!(page.dom.contains("(1044480 more bytes)"));
    assert!(page.dom.contains("more files of this process are not in this report"));
}

#[test]
fn two_thousand_processes_are_a_page_of_some_megabytes() {
    let directory = scratch("report-2000");
    let html = report(&two_thousand(), &directory, Part::ALL);
    assert!(html.len() < 10 << 20, "{} bytes", html.len());
    let [page, found, chosen] =
        Page::follow(&directory, &html, ["", "#q=worker-38-50", "#q=&pid-9009"]);
    assert_eq!(page.console, [] as [&str; 0]);
    assert_eq!(page.count("processes"), "2,000");
    // Only what can be seen is drawn.
    assert!(page.dom.matches("<tr").count() < 2000);
    assert_eq!(found.count("processes"), "1/2,000");
    // The worker, with the way to it.
    assert_eq!(found.between("role=\"treegrid\"", "</table>").matches("data-pid").count(), 3);
    let chosen = chosen.between("aria-selected=\"true\"", "</tr>");
    assert!(chosen.contains("9009") && chosen.contains("chain"), "{chosen}");
}

#[test]
fn hostile_names_are_text() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (at, connections) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = connections.clone();
    // Each connection is counted and closed.
    std::thread::spawn(move || {
        listener.incoming().for_each(|_| {
            counted.fetch_add(1, Ordering::SeqCst);
        });
    });
    let touched = || connections.load(Ordering::SeqCst) > 0;
    let owned = "document.title='owned'";
    let process = format!("<img src=http://{at}/a onerror={owned}>@@data@@");
    let file = format!(
        "/\u{202e}</script><script>{owned}</script><img src=http://{at}/b onerror={owned}><!--\x1b[2J"
    );
    let directory = scratch("report-hostile");
    let html = report(&hostile(&process, &file), &directory, Part::ALL);
    for hash in ["", "#q=owned", "#pid-10139&q=<img%20onerror", "#q=%&pid-x&theme=<b>"] {
        let page = Page::open(&directory, &html, hash);
        assert_eq!(page.console, [] as [&str; 0]);
        assert!(page.title.starts_with("Checkpoint of &lt;img"), "{}", page.title);
        assert!(!page.dom.contains("<img"));
        assert!(page.dom.contains("\\u{202e}") && page.dom.contains("\\u{1b}[2J"));
        assert!(!page.dom.contains('\u{202e}'));
        assert!(!touched());
    }
    // If markup got into the page in spite of that, the policy of the page would stop it.
    let body = format!("<body><script>{owned}</script><img src=http://{at}/c onerror={owned}>");
    let injected = html.replacen("<body>", &body, 1);
    let page = Page::open(&directory, &injected, "");
    assert!(page.title.starts_with("Checkpoint of &lt;img"), "{}", page.title);
    assert!(!touched());
    assert!(page.console.iter().all(|line| line.contains("Content Security Policy")));
    assert!(page.console.len() >= 2, "{:?}", page.console);
    // Without the policy the same page would be owned, so these tests can fail.
    let open = injected.replacen("Content-Security-Policy", "X-None", 1);
    let page = Page::open(&directory, &open, "");
    assert_eq!((&*page.title, touched()), ("owned", true));
}
