//! Sections of a report: everything that the page gets, as JSON.

use std::cmp::Reverse;
use std::collections::HashMap;

use criu_images::memory::Totals;
use criu_images::view::{TaskFds, TaskMems};

use super::cells::Pages;
use super::facts;
use super::row::{Alike, Group, Process};
use super::rows::{Names, Rows, short, short_list};
use super::safe;
use crate::bounds::REPORT;
use crate::inspection::Inspection;

/// Returns the data of the page.
pub(super) fn data(inspection: &Inspection, pages: &Pages) -> String {
    let mut sections = Sections { inspection, names: Names::new(share(6)), json: String::new() };
    let summary = inspection.summary.as_ref();
    let page_size = summary.map_or(4096, |summary| summary.page_size);
    sections.add("page_size", &page_size.to_string());
    sections.figures();
    let mut cards = Rows::new(share(1));
    for card in facts::cards(inspection) {
        cards.push(&card);
    }
    sections.add("facts", &cards.done());
    let mut left = HashMap::new();
    sections.memory(pages, &mut left);
    sections.files(&mut left);
    let groups = sections.security();
    sections.processes(&left, &groups);
    sections.findings();
    sections.needs();
    sections.sockets();
    sections.mounts();
    sections.namespaces();
    sections.working_set();
    sections.rootfs();
    sections.add("notes", &safe::json(&notes(inspection)));
    format!("{{{}\"names\":{}}}", sections.json, sections.names.done())
}

struct Sections<'i> {
    inspection: &'i Inspection,
    names: Names,
    json: String,
}

/// Mappings and open files of a process that did not fit.
#[derive(Clone, Copy, Default)]
struct Left {
    maps: u64,
    files: u64,
}

impl Sections<'_> {
    fn add(&mut self, name: &str, json: &str) {
        for part in ["\"", name, "\":", json, ",\n"] {
            self.json.push_str(part);
        }
    }

    /// Adds numbers that stand for the whole checkpoint, whatever rows are left out.
    fn figures(&mut self) {
        let Inspection { summary, sizes, .. } = self.inspection;
        let figures = summary.as_ref().map(|summary| (summary.tasks, summary.threads));
        let figures = (figures, sizes.checkpoint, sizes.memory);
        self.add("figures", &safe::json(&figures));
    }

    fn memory(&mut self, pages: &Pages, left: &mut HashMap<u32, Left>) {
        let mut rows = Rows::new(share(12));
        for task in self.inspection.mappings.iter().flat_map(|mems| &mems.tasks) {
            for map in &task.mappings {
                let Totals { present, parent, lazy, zero, file, shared, kernel, .. } = map.pages;
                let amounts = [present, parent, lazy, zero, file, shared, kernel];
                let [start, end, offset] =
                    [map.start, map.end, map.offset].map(|number| format!("{number:x}"));
                let row = |name| {
                    let cells = pages.cells(task, map);
                    (task.pid, start, end, &map.permissions, offset, name, cells, amounts)
                };
                if !rows.push_named(self.names.number(&map.name), row) {
                    left.entry(task.pid).or_default().maps += 1;
                }
            }
        }
        self.add("memory", &rows.done());
    }

    fn files(&mut self, left: &mut HashMap<u32, Left>) {
        let mut rows = Rows::new(share(9));
        for task in self.inspection.open_files.iter().flat_map(|fds| &fds.tasks) {
            for fd in &task.fds {
                let row = |name| (task.pid, fd.fd, fd.mode, fd.kind, name, fd.deleted);
                if !rows.push_named(self.names.number(&fd.description), row) {
                    left.entry(task.pid).or_default().files += 1;
                }
            }
        }
        self.add("files", &rows.done());
    }

    /// Adds groups of threads that are alike. Returns the groups of each process.
    fn security(&mut self) -> HashMap<u32, Vec<usize>> {
        let mut groups: Vec<(Alike<'_>, Vec<u32>)> = Vec::new();
        let mut known: HashMap<String, usize> = HashMap::new();
        let threads = self.inspection.security.iter().flat_map(|security| &security.threads);
        for thread in threads {
            let alike = Alike::new(thread);
            let number = *known.entry(safe::json(&alike)).or_insert(groups.len());
            match groups.get_mut(number) {
                Some((_, pids)) => pids.push(thread.pid),
                None => groups.push((alike, vec![thread.pid])),
            }
        }
        // The largest group says most.
        groups.sort_by_key(|(_, pids)| Reverse(pids.len()));
        let (mut rows, mut of_process) = (Rows::new(share(4)), HashMap::new());
        for (number, (alike, pids)) in groups.iter().enumerate() {
            if !rows.push(&Group { alike, threads: pids.len() }) {
                continue;
            }
            for pid in pids {
                let groups: &mut Vec<usize> = of_process.entry(*pid).or_default();
                if groups.last() != Some(&number) {
                    groups.push(number);
                }
            }
        }
        self.add("security", &rows.done());
        of_process
    }

    fn processes(&mut self, left: &HashMap<u32, Left>, groups: &HashMap<u32, Vec<usize>>) {
        let inspection = self.inspection;
        let files = inspection.open_files.iter().flat_map(|fds| &fds.tasks);
        let files: HashMap<u32, &TaskFds> = files.map(|task| (task.pid, task)).collect();
        let maps = inspection.mappings.iter().flat_map(|mems| &mems.tasks);
        let maps: HashMap<u32, &TaskMems> = maps.map(|task| (task.pid, task)).collect();
        let mut rows = Rows::new(share(10));
        for process in inspection.ps.iter().flat_map(|ps| &ps.processes) {
            let (files, maps) = (files.get(&process.pid), maps.get(&process.pid));
            let pages = |of: fn(&Totals) -> u64| {
                let maps = maps.iter().flat_map(|task| &task.mappings);
                maps.fold(0u64, |sum, map| sum.saturating_add(of(&map.pages)))
            };
            let path = |of: fn(&TaskFds) -> &Option<String>| {
                files.and_then(|task| of(task).as_deref()).map(short)
            };
            let left = left.get(&process.pid).copied().unwrap_or_default();
            rows.push(&Process {
                pid: process.pid,
                ppid: process.ppid,
                pgid: process.pgid,
                sid: process.sid,
                depth: process.depth,
                state: &process.state,
                tids: process.tids.get(..MOST_THREADS).unwrap_or(&process.tids),
                threads: process.tids.len(),
                user: process.user,
                name: short(&process.name),
                args: process.arguments.as_deref().map(short_list),
                env: process.environment.as_deref().map(short_list),
                exe: path(|task| &task.exe),
                cwd: path(|task| &task.cwd),
                root: path(|task| &task.root),
                security: groups.get(&process.pid).map(Vec::as_slice).unwrap_or_default(),
                own: pages(Totals::own),
                mapped: pages(|pages| pages.mapped),
                maps_left: left.maps,
                files_left: left.files,
            });
        }
        self.add("processes", &rows.done());
    }

    fn findings(&mut self) {
        let mut rows = Rows::new(share(1));
        for finding in &self.inspection.findings {
            rows.push(&(finding.severity, short(&finding.place), short(&finding.text)));
        }
        self.add("findings", &rows.done());
    }

    fn needs(&mut self) {
        let mut rows = Rows::new(share(1));
        for need in self.inspection.summary.iter().flat_map(|summary| &summary.needs) {
            rows.push(&(short(&need.option), short(&need.why)));
        }
        self.add("needs", &rows.done());
    }

    fn sockets(&mut self) {
        let mut rows = Rows::new(share(6));
        for socket in self.inspection.sockets.iter().flat_map(|sockets| &sockets.sockets) {
            let holders = socket.holders.iter().map(|holder| (holder.pid, holder.fd));
            let holders: Vec<(u32, u32)> = holders.take(MOST_HOLDERS).collect();
            rows.push(&(
                &socket.protocol,
                socket.state,
                socket.received,
                socket.sent,
                short(&socket.local),
                short(&socket.peer),
                &holders,
                socket.holders.len().saturating_sub(holders.len()),
            ));
        }
        self.add("sockets", &rows.done());
    }

    /// Adds the mounts of the namespaces, then those that the container's specification asks for.
    fn mounts(&mut self) {
        let mut rows = Rows::new(share(4));
        for table in self.inspection.mounts.iter().flat_map(|mounts| &mounts.namespaces) {
            for mount in &table.mounts {
                let [target, source, root, fs, options] =
                    [&mount.target, &mount.source, &mount.root, &mount.fs, &mount.options]
                        .map(|text| short(text));
                let external = mount.external.as_deref().map(short);
                let place = table.id.to_string();
                rows.push(&(place, mount.depth, target, source, root, fs, options, external));
            }
        }
        let container = self.inspection.container.iter().flat_map(|container| &container.mounts);
        for mount in container {
            let [target, source, kind, options] =
                [&mount.destination, &mount.source, &mount.kind, &mount.options.join(",")]
                    .map(|text| short(text));
            rows.push(&("spec", 0, target, source, "/", kind, options, None::<String>));
        }
        self.add("mounts", &rows.done());
    }

    fn namespaces(&mut self) {
        let mut rows = Rows::new(share(4));
        for row in self.inspection.namespaces.iter().flat_map(|all| &all.namespaces) {
            let external = row.external.as_deref().map(short);
            let contents = short_list(&row.contents);
            rows.push(&(&row.kind, row.id, row.host, external, &row.pids, contents));
        }
        self.add("namespaces", &rows.done());
    }

    fn working_set(&mut self) {
        let mut rows = Rows::new(share(2));
        for task in self.inspection.working_set.iter().flat_map(|set| &set.tasks) {
            let (pages, own, runs) = (task.pages, task.own_pages, task.runs);
            let (first, last) = (task.first_us, task.last_us);
            rows.push(&(task.pid, short(&task.name), pages, own, runs, first, last));
        }
        let fault = self.inspection.working_set_fault.as_deref().map(short);
        self.add("working_set", &rows.done());
        self.add("working_set_fault", &safe::json(&fault));
    }

    fn rootfs(&mut self) {
        let Some(rootfs) = &self.inspection.rootfs else { return self.add("rootfs", "null") };
        let mut rows = Rows::new(share(4));
        for file in &rootfs.changed {
            let mode = format!("{:04o}", file.mode & 0o7777);
            rows.push(&(file.kind, short(&file.path), file.bytes, mode, file.modified));
        }
        for path in &rootfs.deleted {
            rows.push(&("deleted", short(path), 0, "", 0));
        }
        self.add("rootfs", &rows.done());
    }
}

/// Lines at the end of the page: what it holds, and what it leaves out.
fn notes(inspection: &Inspection) -> [&'static str; 4] {
    let mut processes = inspection.ps.iter().flat_map(|ps| &ps.processes);
    let environments = if processes.any(|process| process.environment.is_some()) {
        "Environments of the processes are in this file. They may hold secrets."
    } else {
        "Environments of the processes are left out: they may hold secrets."
    };
    [
        "Own memory is the pages that belong to a process alone, wherever their bytes are.",
        environments,
        "Contents of memory are not in this file. Command lines, paths and addresses are.",
        "The page needs no network, loads nothing and sends nothing.",
    ]
}

/// Returns a part of [`REPORT`], in shares of 64.
fn share(shares: u64) -> usize {
    usize::try_from(REPORT.get() / 64 * shares).unwrap_or(usize::MAX)
}

/// Most threads of a process that are named.
const MOST_THREADS: usize = 100;
/// Most descriptors of a socket that are named.
const MOST_HOLDERS: usize = 100;
