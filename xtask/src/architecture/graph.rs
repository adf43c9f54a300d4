//! Rooms, their imports, floors and knots.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::Result;
use crate::architecture::sources::Sources;
use crate::architecture::tree::{Found, Tree};

/// A path in the source that leads from one room to another.
#[derive(Clone, Debug)]
pub struct Import {
    /// The file and line, as `criu-rs/src/error.rs:7`.
    pub place: String,
    /// The path as it is written.
    pub path: String,
}

impl fmt::Display for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: `{}`", self.place, self.path)
    }
}

/// The rooms of a crate, and the imports between them. The root file is not a room.
#[derive(Debug)]
pub struct Graph {
    /// The package's folder, followed by the program's name if the crate is a program.
    pub name: String,
    /// The rooms that each room imports, each with the first import in its files.
    rooms: BTreeMap<String, BTreeMap<String, Vec<Import>>>,
}

impl Graph {
    /// Returns the graph of each crate that has rooms.
    ///
    /// # Errors
    /// If a file does not parse or is missing.
    pub fn all(sources: &Sources) -> Result<Vec<Self>> {
        let trees = Tree::all(sources)?;
        let graphs = trees.iter().map(Self::of);
        Ok(graphs.filter(|graph| !graph.rooms.is_empty()).collect())
    }

    pub(super) fn of(tree: &Tree) -> Self {
        let rooms = tree.rooms().map(|room| (room.to_owned(), BTreeMap::new())).collect();
        let mut graph = Self { name: tree.name.clone(), rooms };
        for found in tree.found() {
            let Some(imports) = found.from.and_then(|from| graph.rooms.get_mut(from)) else {
                continue;
            };
            for &room in found.rooms.iter().filter(|&&room| Some(room) != found.from) {
                let all: &mut Vec<Import> = imports.entry(room.to_owned()).or_default();
                all.push(found.to_import());
            }
        }
        graph
    }

    /// Returns the names of the rooms, in order.
    pub fn rooms(&self) -> impl Iterator<Item = &str> {
        self.rooms.keys().map(String::as_str)
    }

    /// Returns the rooms that `room` imports, each with its imports.
    pub fn imports(&self, room: &str) -> impl Iterator<Item = (&str, &[Import])> {
        let imports = self.rooms.get(room).into_iter().flatten();
        imports.map(|(room, imports)| (room.as_str(), imports.as_slice()))
    }

    /// Returns the floor of each room: 1 if it imports nothing, else one above the highest room
    /// that it imports. The rooms of a knot share a floor.
    pub fn floors(&self) -> BTreeMap<&str, usize> {
        let reach: BTreeMap<&str, BTreeSet<&str>> =
            self.rooms().map(|room| (room, self.reach(room))).collect();
        let mut floors = BTreeMap::new();
        // A room reaches all rooms that the rooms below it reach, and so has more of them.
        let mut order: Vec<&str> = self.rooms().collect();
        order.sort_by_key(|room| reach[room].len());
        for room in order {
            let is_below = |other: &&&str| !reach[**other].contains(room);
            let below = reach[room].iter().filter(is_below);
            let highest = below.filter_map(|other| floors.get(other)).max().copied();
            floors.insert(room, highest.unwrap_or(0) + 1);
        }
        floors
    }

    /// Returns the sets of rooms that import each other, directly or through others.
    pub fn knots(&self) -> Vec<Vec<&str>> {
        let mut knots: Vec<Vec<&str>> = Vec::new();
        for room in self.rooms() {
            if knots.iter().flatten().any(|other| *other == room) {
                continue;
            }
            let reach = self.reach(room);
            if reach.contains(room) {
                knots.push(
                    reach.into_iter().filter(|other| self.reach(other).contains(room)).collect(),
                );
            }
        }
        knots
    }

    /// Returns a shortest cycle through a room: the rooms on it, each with the import of the next.
    pub fn cycle(&self, room: &str) -> Vec<(&str, &Import)> {
        let mut ways: Vec<Vec<(&str, &Import)>> = vec![Vec::new()];
        let mut seen = BTreeSet::new();
        while !ways.is_empty() {
            let mut longer = Vec::new();
            for way in ways {
                let end = way.last().map_or(room, |(next, _)| *next);
                for (next, imports) in self.imports(end) {
                    let Some(import) = imports.first() else { continue };
                    if seen.insert(next) {
                        let way = [way.as_slice(), &[(next, import)]].concat();
                        if next == room {
                            return way;
                        }
                        longer.push(way);
                    }
                }
            }
            ways = longer;
        }
        Vec::new()
    }

    /// Returns the rooms that a room imports, directly or through others.
    fn reach(&self, room: &str) -> BTreeSet<&str> {
        let mut reach = BTreeSet::new();
        let mut next: Vec<&str> = self.imports(room).map(|(to, _)| to).collect();
        while let Some(room) = next.pop() {
            if reach.insert(room) {
                next.extend(self.imports(room).map(|(to, _)| to));
            }
        }
        reach
    }
}

impl Found<'_> {
    pub(super) fn to_import(&self) -> Import {
        Import { place: format!("{}:{}", self.file, self.line), path: self.import.clone() }
    }
}

/// A table: the floors from the top down, then the knots.
impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (floors, knots) = (self.floors(), self.knots());
        let top = floors.values().max().copied().unwrap_or(0);
        let knotted: usize = knots.iter().map(Vec::len).sum();
        let (name, rooms) = (&self.name, self.rooms.len());
        writeln!(f, "{name}: {rooms} rooms, {top} floors, rooms in knots: {knotted}")?;
        for floor in (1..=top).rev() {
            for (room, _) in floors.iter().filter(|(_, at)| **at == floor) {
                let imports: Vec<&str> = self.imports(room).map(|(to, _)| to).collect();
                writeln!(f, "{floor:4}  {room:14} {}", imports.join(" "))?;
            }
        }
        for knot in &knots {
            writeln!(f, "  knot: {}", knot.join(" "))?;
            let cycles = knot.iter().map(|room| self.cycle(room));
            if let Some(cycle) = cycles.min_by_key(Vec::len) {
                for (room, import) in cycle {
                    writeln!(f, "        to {room}: {import}")?;
                }
            }
        }
        Ok(())
    }
}
