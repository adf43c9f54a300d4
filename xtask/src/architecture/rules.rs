//! The rules between rooms and crates, and the breaches of them.

use std::fmt;

use crate::Result;
use crate::architecture::graph::{Graph, Import};
use crate::architecture::sources::Sources;
use crate::architecture::tree::{Found, Tree};

/// A rule that an import can break.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rule {
    /// Rooms of a crate do not import each other in a circle.
    Cycle,
    /// A room names the room that a name comes from, not the crate's root.
    Facade,
    /// A room of a crate with floors imports rooms below it alone.
    Floor,
    /// A room of a crate with floors has a row in [`FLOORS`].
    Row,
    /// A crate does not name the crates above it, and some rooms do not name certain others.
    Stranger,
}

/// An import that breaks a rule.
#[derive(Debug)]
pub struct Breach {
    /// The rule.
    pub rule: Rule,
    /// The import, or each import of a circle.
    pub imports: Vec<Import>,
    /// The fault, with the rooms by name.
    reason: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.imports[..] {
            [import] => write!(f, "{import}: {}", self.reason),
            imports => {
                write!(f, "{}", self.reason)?;
                imports.iter().try_for_each(|import| write!(f, "\n    {import}"))
            }
        }
    }
}

/// The crates with floors, by folder, and the rooms of each from the ground up. A room imports only
/// rooms in rows before its own. The rooms of one row do not import each other.
pub const FLOORS: &[(&str, &[&[&str]])] = &[("criu-rs", CRIU_RS), ("cri", CRI)];

/// The rooms of `criu-rs/src`.
const CRIU_RS: &[&[&str]] = &[
    &["bounds", "sys"],
    &["value"],
    &["hooks"],
    &["rpc"],
    &["host"],
    &["labels"],
    &["config"],
    &["diagnosis"],
    &["error"],
    &["undo"],
    // Options put descriptors into what a transport hands to criu.
    &["transport"],
    &["options"],
    &["drive"],
    &["criu"],
    // Below the operations, which capture pages themselves.
    &["pages"],
    &["copies", "lazy"],
    &["operation"],
    &["archive", "instant"],
    &["preflight"],
    &["oci", "pod"],
    &["fuzzing"],
];

/// The rooms of `cri/src`.
const CRI: &[&[&str]] = &[
    &["proto"],
    &["error"],
    &["client"],
    &["engine"],
    // A job and a pod shut networks.
    &["hold"],
    &["coordinator", "kubelet"],
    &["pod"],
    &["proxy"],
];

/// Crates and rooms that do not name certain others: the crate's folder, the room or `""` for all
/// rooms, and the crates and rooms that no path leads to.
const STRANGERS: &[(&str, &str, &[&str])] = &[
    ("images", "", &["criu_archive", "criu_cri", "criu_rs", "criu_sys", "criu_cli"]),
    ("archive", "", &["criu_rs", "criu_sys", "criu_cli", "criu_cri"]),
    ("plugin", "", &["criu_archive", "criu_cli", "criu_cri", "criu_images", "criu_rs", "criu_sys"]),
    ("cri", "", &["criu_cli", "criu_sys"]),
    ("criu-rs", "", &["criu_cli", "criu_cri"]),
    ("criu-rs", "pages", &["operation"]),
    ("criu-rs", "lazy", &["operation"]),
];

/// The crates without imports through the facade.
const WITHOUT_FACADE: &[&str] = &["archive", "cri", "criu-rs", "images", "plugin"];

/// Returns every breach of the rules in the sources.
///
/// # Errors
/// If a file does not parse or is missing.
pub fn breaches(sources: &Sources) -> Result<Vec<Breach>> {
    let mut breaches = Vec::new();
    for tree in Tree::all(sources)? {
        let graph = Graph::of(&tree);
        breaches.extend(tree.found().filter_map(|found| facade(&tree.name, &found)));
        breaches.extend(tree.found().flat_map(|found| strangers(&tree.name, &found)));
        let table = FLOORS.iter().find(|(name, _)| *name == tree.name);
        breaches.extend(table.into_iter().flat_map(|(_, rows)| floors(&graph, rows)));
        breaches.extend(cycles(&graph));
    }
    Ok(breaches)
}

fn facade(name: &str, found: &Found<'_>) -> Option<Breach> {
    if !WITHOUT_FACADE.contains(&name) || !found.is_facade {
        return None;
    }
    let reason = match found.rooms.last() {
        Some(room) => format!("the facade is imported, the name is in the room `{room}`"),
        None => "the facade is imported".to_owned(),
    };
    Some(Breach { rule: Rule::Facade, imports: vec![found.to_import()], reason })
}

fn strangers(name: &str, found: &Found<'_>) -> Vec<Breach> {
    let rows = STRANGERS.iter().filter(|(folder, room, _)| {
        *folder == name && (room.is_empty() || found.from == Some(room))
    });
    let mut breaches = Vec::new();
    for (folder, room, strangers) in rows {
        let known = found.rooms.iter().copied().chain(found.other.as_deref());
        for stranger in known.filter(|known| strangers.contains(known)) {
            let who = if room.is_empty() { folder } else { room };
            let reason = format!("`{who}` does not know `{stranger}`");
            let imports = vec![found.to_import()];
            breaches.push(Breach { rule: Rule::Stranger, imports, reason });
        }
    }
    breaches
}

fn floors(graph: &Graph, rows: &[&[&str]]) -> Vec<Breach> {
    let row = |room: &str| rows.iter().position(|rooms| rooms.contains(&room));
    let mut breaches = Vec::new();
    for room in graph.rooms() {
        let Some(from) = row(room) else {
            let reason = format!("the room `{room}` of {} needs a row in FLOORS", graph.name);
            breaches.push(Breach { rule: Rule::Row, imports: Vec::new(), reason });
            continue;
        };
        for (other, imports) in graph.imports(room) {
            if row(other).is_some_and(|to| to >= from) {
                let reason = format!("the room `{room}` imports `{other}`, which is not below it");
                breaches.extend(imports.iter().map(|import| Breach {
                    rule: Rule::Floor,
                    imports: vec![import.clone()],
                    reason: reason.clone(),
                }));
            }
        }
    }
    breaches
}

fn cycles(graph: &Graph) -> Vec<Breach> {
    let breach = |knot: Vec<&str>| {
        let cycle = knot.iter().map(|room| graph.cycle(room)).min_by_key(Vec::len)?;
        let reason = format!(
            "{}: {} rooms import each other: {}; the shortest circle:",
            graph.name,
            knot.len(),
            knot.join(" ")
        );
        let imports = cycle.into_iter().map(|(_, import)| import.clone()).collect();
        Some(Breach { rule: Rule::Cycle, imports, reason })
    };
    graph.knots().into_iter().filter_map(breach).collect()
}
