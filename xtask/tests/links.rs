//! Relative links in Markdown files lead to files and headings that exist.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

#[test]
fn relative_links_lead_somewhere() {
    let mut seen = 0;
    let mut broken = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(root().join(&page)).unwrap();
        for (line, target) in links(&text) {
            seen += 1;
            if let Err(reason) = follow(&page, &target) {
                broken.push(format!("{}:{line}: {target}: {reason}", page.display()));
            }
        }
    }
    assert!(seen > 30, "found {seen} relative links, wanted more than 30");
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
}

#[test]
fn the_index_names_every_page_of_docs() {
    let index = fs::read_to_string(root().join("docs/README.md")).unwrap();
    let named: BTreeSet<String> = links(&index).map(|(_, target)| target).collect();
    let docs = pages().into_iter().filter(|page| page.parent() == Some(Path::new("docs")));
    let names = docs.map(|page| page.file_name().unwrap().to_string_lossy().into_owned());
    let missing: Vec<String> =
        names.filter(|name| name != "README.md" && !named.contains(name)).collect();
    assert!(missing.is_empty(), "docs/README.md lacks {missing:?}");
}

#[test]
fn links_are_found() {
    let text = "\
        [a](x.md) and [`b`](y/z.md#part \"title\"), ![c](c.png)\n\
        `[no](code.md)` [web](https://example.org) [mail](mailto:a@example.org)\n\
        ```\n[no](fenced.md)\n```\n\
        [d]: d.md\n\
        [![badge](badge.svg)](outer.md) [e](#here)\n";
    let found: Vec<_> = links(text).collect();
    let found: Vec<_> = found.iter().map(|(line, target)| (*line, &**target)).collect();
    let wanted = [
        (1, "x.md"),
        (1, "y/z.md#part"),
        (1, "c.png"),
        (6, "d.md"),
        (7, "badge.svg"),
        (7, "outer.md"),
        (7, "#here"),
    ];
    assert_eq!(found, wanted);
}

#[test]
fn a_broken_link_is_noticed() {
    let page = Path::new("docs/README.md");
    follow(page, "../README.md").unwrap();
    follow(page, "../benches/README.md#ending-a-dump-early").unwrap();
    for bad in ["gone.md", "../../outside.md", "/README.md", "../benches/README.md#gone", "#gone"] {
        follow(page, bad).unwrap_err();
    }
}

#[test]
fn headings_have_the_anchors_of_code_hosts() {
    let text = "# What `Cancel` does, and why\n```sh\n# no heading\n```\n## Use\n## Use\n";
    let wanted = ["what-cancel-does-and-why", "use", "use-1"];
    assert_eq!(anchors(text), wanted.map(String::from).into());
}

/// Checks that a link of a page leads to a file of the project, and to a heading in it.
fn follow(page: &Path, target: &str) -> Result<(), String> {
    let (path, anchor) = target.split_once('#').map_or((target, None), |(p, a)| (p, Some(a)));
    let file = if path.is_empty() {
        page.to_owned()
    } else {
        let folder = page.parent().unwrap();
        normal(&folder.join(path)).ok_or("leaves the project")?
    };
    let file = root().join(file);
    if !file.exists() {
        return Err("no such file".into());
    }
    let Some(anchor) = anchor else { return Ok(()) };
    let text = fs::read_to_string(&file).map_err(|error| error.to_string())?;
    if anchors(&text).contains(anchor) { Ok(()) } else { Err("no such heading".into()) }
}

/// A path below the project's root without `..`, or nothing if the path leads out.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => normal.pop().then_some(())?,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(normal)
}

/// The targets of the relative links in a Markdown text, each with its line.
fn links(text: &str) -> impl Iterator<Item = (usize, String)> {
    prose(text).flat_map(|(number, line)| {
        let line = without_code(line);
        let inline = line.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
        let definition = line.strip_prefix('[').and_then(|rest| Some(rest.split_once("]: ")?.1));
        let targets = inline.chain(definition).filter_map(|target| {
            let target = target.split_whitespace().next()?;
            let is_relative = !target.contains("://") && !target.starts_with("mailto:");
            is_relative.then(|| (number, target.to_owned()))
        });
        targets.collect::<Vec<_>>()
    })
}

/// The anchors of a Markdown text's headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for (_, line) in prose(text) {
        let title = line.trim_start_matches('#');
        if title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let kept = title.trim().to_lowercase().replace(' ', "-");
        let is_kept = |c: &char| c.is_alphanumeric() || matches!(c, '-' | '_');
        let anchor: String = kept.chars().filter(is_kept).collect();
        let again = (1..).map(|n| format!("{anchor}-{n}"));
        let mut names = std::iter::once(anchor.clone()).chain(again);
        anchors.insert(names.find(|name| !anchors.contains(name)).unwrap());
    }
    anchors
}

/// The lines outside of fenced code, each with its number.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        (!is_code && !is_fence).then_some((index + 1, line))
    })
}

/// A line without its code spans.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// The Markdown files of the project, tracked or about to be, from the project's root.
fn pages() -> Vec<PathBuf> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.md"]);
    let said = git.current_dir(root()).output().unwrap();
    assert!(said.status.success(), "git: {}", String::from_utf8_lossy(&said.stderr));
    let names = String::from_utf8(said.stdout).unwrap();
    let names: BTreeSet<&str> = names.split_terminator('\0').collect();
    // A file that was just deleted is still tracked.
    names.into_iter().map(PathBuf::from).filter(|page| root().join(page).exists()).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
