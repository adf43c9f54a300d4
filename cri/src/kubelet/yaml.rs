//! The YAML of a kubeconfig: a small tree with bounds.

use std::fmt;

use saphyr_parser::{Event, Parser, ScalarStyle};

/// A node of a document. Aliases are refused, so a document takes as much memory as its text.
#[derive(Clone, Eq, PartialEq)]
pub(super) enum Node {
    /// A scalar of any kind, as text; nothing for a null.
    Text(Option<String>),
    List(Vec<Node>),
    /// Fields in their order. Keys that are no text are left out.
    Object(Vec<(String, Node)>),
}

impl Node {
    /// Reads a text with one document, or none.
    ///
    /// # Errors
    /// Returns the reason, with the line.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut open: Vec<Open> = Vec::new();
        let mut root = None;
        let mut nodes = 0_usize;
        for event in Parser::new_from_str(text) {
            // The words of the parser could hold a part of a secret.
            let (event, span) = event.map_err(|error| at(error.marker().line(), NO_YAML))?;
            let fail = |why| Err(at(span.start.line(), why));
            nodes += 1;
            if nodes > NODES {
                return fail("has too many values");
            }
            let done = match event {
                Event::Scalar(text, style, _, _) => {
                    let is_null = style == ScalarStyle::Plain
                        && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                    Self::Text((!is_null).then(|| text.into_owned()))
                }
                Event::SequenceStart(..) | Event::MappingStart(..) if open.len() >= DEPTH => {
                    return fail("is nested too deep");
                }
                Event::SequenceStart(..) => {
                    open.push(Open { node: Self::List(Vec::new()), key: None });
                    continue;
                }
                Event::MappingStart(..) => {
                    open.push(Open { node: Self::Object(Vec::new()), key: None });
                    continue;
                }
                Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                    Some(open) => open.node,
                    None => return fail(NO_YAML),
                },
                Event::Alias(_) => return fail("has an alias"),
                _ => continue,
            };
            match open.last_mut() {
                Some(above) => above.take(done),
                None if root.is_none() => root = Some(done),
                None => return fail("has a second document"),
            }
        }
        Ok(root.unwrap_or(Self::Text(None)))
    }

    /// Returns the field of an object, unless it is null.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let Self::Object(fields) = self else { return None };
        let found = fields.iter().find(|(name, _)| name == key).map(|(_, node)| node);
        found.filter(|node| **node != Self::Text(None))
    }

    /// Returns the text of a field, unless it is empty.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.get(key) {
            Some(Self::Text(Some(text))) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// Returns the nodes of a field that is a list.
    pub(super) fn list(&self, key: &str) -> &[Self] {
        match self.get(key) {
            Some(Self::List(nodes)) => nodes,
            _ => &[],
        }
    }
}

impl fmt::Debug for Node {
    /// Shows no text, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(None) => "Null",
            Self::Text(_) => "Text(..)",
            Self::List(_) => "List(..)",
            Self::Object(_) => "Object(..)",
        })
    }
}

/// A list or an object that is not complete.
struct Open {
    node: Node,
    /// Key of an object whose value follows; the key itself is `None` if it is no text.
    key: Option<Option<String>>,
}

impl Open {
    fn take(&mut self, done: Node) {
        match (&mut self.node, self.key.take()) {
            (Node::List(nodes), _) => nodes.push(done),
            (Node::Object(fields), Some(Some(key))) => fields.push((key, done)),
            (Node::Object(_), None) => {
                self.key = Some(match done {
                    Node::Text(text) => text,
                    _ => None,
                });
            }
            _ => {}
        }
    }
}

fn at(line: usize, why: &str) -> String {
    format!("{why} (line {line})")
}

const NO_YAML: &str = "is no YAML";
/// The most values of a document: a kubeconfig has some 20 for each cluster.
const NODES: usize = 1 << 16;
/// The deepest nesting: a kubeconfig has 5 levels.
const DEPTH: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_has_the_values_of_the_text() {
        let text =
            "a: 1\nb: {c: ~, d: \"x\\ny\"}\nlist:\n- e: true\n- [f, 'g']\nlong: |\n  h\n  i\n";
        let node = Node::parse(text).unwrap();
        assert_eq!(node.text("a"), Some("1"));
        let b = node.get("b").unwrap();
        assert_eq!((b.get("c"), b.text("d")), (None, Some("x\ny")));
        assert_eq!(node.list("list")[0].text("e"), Some("true"));
        assert_eq!(node.text("long"), Some("h\ni\n"));
        assert_eq!(
            Node::parse(r#"{"a":{"b":["c"]}}"#).unwrap().get("a").unwrap().list("b").len(),
            1
        );
        assert_eq!(Node::parse("").unwrap(), Node::Text(None));
    }

    #[test]
    fn hostile_text_is_refused_and_told_without_its_words() {
        let deep = "[".repeat(100_000);
        let indented: String = (0..200).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
        let many = "- a\n".repeat(100_000);
        let bomb = "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n";
        for text in [&*deep, &indented, &many, bomb, "a: b\n---\nc: d\n", "{a: secret"] {
            let said = Node::parse(text).unwrap_err();
            assert!(said.contains("(line ") && !said.contains("secret"), "{said}");
        }
        // A whole document and each beginning of it end in a result.
        let whole =
            "clusters:\n- name: a\n  cluster: {server: 'https://a', x: [1, 2]}\nusers: |\n  b\n";
        for at in 0..whole.len() {
            _ = Node::parse(&whole[..at]);
            for byte in ['\t', '&', '*', '"', '\'', '[', '{', ':', '-', '|', '\n', '\0', '%', '@'] {
                let mut changed = whole.to_owned();
                changed.replace_range(at..=at, &byte.to_string());
                _ = Node::parse(&changed);
            }
        }
    }
}
