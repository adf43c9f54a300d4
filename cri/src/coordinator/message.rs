//! Requests on the wire: a JSON object each.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::error::CoordinatorError;
use super::step::Step;

/// The dependencies of several members, by id.
pub type Graph = BTreeMap<String, Vec<String>>;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) id: String,
    pub(super) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Step {
        step: Step,
        /// The members to wait for. Without any, those of the coordinator's graph.
        needs: Vec<String>,
        /// True if the connection stays for as long as the operation takes. criu-coordinator does
        /// not know the field, and closes the connection.
        hold: bool,
    },
    AddDependencies(Graph),
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// The reason, for text that is no request of this protocol.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let parsed = serde_json::from_slice::<Map<String, Value>>(text);
        let mut object = parsed.map_err(|error| format!("the request is no JSON: {error}"))?;
        let mut string = |field: &str| match object.remove(field) {
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(format!("`{field}` is no string")),
            None => Err(format!("the request lacks `{field}`")),
        };
        let (id, action) = (string("id")?, string("action")?);
        check_id(&id)?;
        let dependencies = object.remove("dependencies");
        let what = match Step::of_name(&action) {
            Some(step) => {
                let needs = match dependencies {
                    Some(Value::String(text)) => split(&text)?,
                    None | Some(Value::Null) => Vec::new(),
                    Some(_) => return Err("`dependencies` is no string".to_owned()),
                };
                let hold = object.remove("hold") == Some(Value::Bool(true));
                What::Step { step, needs, hold }
            }
            None if action == ADD_DEPENDENCIES => {
                let Some(Value::Object(rows)) = dependencies else {
                    return Err(format!("`dependencies` of {ADD_DEPENDENCIES} is no object"));
                };
                What::AddDependencies(graph(rows)?)
            }
            None => return Err(unknown_action(&action)),
        };
        Ok(Self { id, what })
    }

    /// Returns the request as it is sent.
    pub(super) fn to_json(&self) -> String {
        let value = match &self.what {
            What::Step { step, needs, hold } => {
                let mut object =
                    json!({"id": self.id, "action": step.name(), "dependencies": needs.join(":")});
                if *hold {
                    object["hold"] = Value::Bool(true);
                }
                object
            }
            What::AddDependencies(graph) => {
                json!({"id": self.id, "action": ADD_DEPENDENCIES, "dependencies": graph})
            }
        };
        value.to_string()
    }
}

/// Reads a list of ids with colons between. Empty ids are left out.
///
/// # Errors
/// [`CoordinatorError::Invalid`] for an id that is too long or has a control character, and for
/// more than 1,024 ids.
pub fn ids(text: &str) -> Result<Vec<String>, CoordinatorError> {
    split(text).map_err(CoordinatorError::Invalid)
}

pub(super) fn split(text: &str) -> Result<Vec<String>, String> {
    let ids: Vec<String> = text.split(':').filter(|id| !id.is_empty()).map(str::to_owned).collect();
    if ids.len() > MAX_NEEDS {
        return Err(format!("{} dependencies, and {MAX_NEEDS} are the limit", ids.len()));
    }
    ids.iter().try_for_each(|id| check_id(id))?;
    Ok(ids)
}

fn graph(rows: Map<String, Value>) -> Result<Graph, String> {
    let row = |(id, needs): (String, Value)| {
        let Value::Array(needs) = needs else {
            return Err(format!("the dependencies of {id} are no list"));
        };
        let need = |need: Value| match need {
            Value::String(need) => Ok(need),
            _ => Err(format!("a dependency of {id} is no string")),
        };
        let needs = needs.into_iter().map(need).collect::<Result<Vec<_>, _>>()?;
        check_row(&id, &needs)?;
        Ok((id, needs))
    };
    rows.into_iter().map(row).collect()
}

/// Checks the dependencies of a member.
pub(super) fn check_row(id: &str, needs: &[String]) -> Result<(), String> {
    check_id(id)?;
    if needs.len() > MAX_NEEDS {
        let found = needs.len();
        return Err(format!("{id:?} has {found} dependencies, and {MAX_NEEDS} are the limit"));
    }
    needs.iter().try_for_each(|need| check_id(need))
}

/// Checks an id: 1 to 128 bytes of text without a colon.
pub(super) fn check_id(id: &str) -> Result<(), String> {
    if id.is_empty() || id.len() > MAX_ID {
        return Err(format!("an id has 1 to {MAX_ID} bytes, and not {}", id.len()));
    }
    if id.contains(|c: char| c == ':' || c.is_control()) {
        return Err(format!("{id:?} is no id: it has a colon or a control character"));
    }
    Ok(())
}

fn unknown_action(action: &str) -> String {
    if matches!(action, "pre-stream" | "post-stream") {
        return format!("{action}: this coordinator takes no images; write them to a directory");
    }
    let shown: String = action.chars().take(64).collect();
    let known: Vec<&str> = Step::ALL.iter().map(|step| step.name()).collect();
    format!("unknown action {shown:?}; known are {} and {ADD_DEPENDENCIES}", known.join(", "))
}

/// The search for the end of a JSON object, which comes without its length.
#[derive(Debug, Default)]
pub(super) struct Scan {
    depth: usize,
    in_string: bool,
    is_escaped: bool,
}

impl Scan {
    /// Takes the next byte. Returns `true` if the object ends with it.
    ///
    /// # Errors
    /// A first byte that begins no object.
    pub(super) fn take(&mut self, byte: u8) -> Result<bool, CoordinatorError> {
        if self.depth == 0 {
            return match byte {
                b'{' => {
                    self.depth = 1;
                    Ok(false)
                }
                b' ' | b'\t' | b'\r' | b'\n' => Ok(false),
                _ => Err(CoordinatorError::Garbage),
            };
        }
        if self.in_string {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return Ok(false);
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth = self.depth.saturating_add(1),
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        Ok(self.depth == 0)
    }
}

/// The action with which [`KUBESCR`] sets dependencies.
const ADD_DEPENDENCIES: &str = "add-dependencies";

/// The only id that may set dependencies, as for criu-coordinator.
pub(super) const KUBESCR: &str = "kubescr";

/// The largest request, in bytes: as much as criu-coordinator reads.
pub(super) const MAX_REQUEST: usize = 128 << 10;

/// The longest id, in bytes. The id of a container has 64.
const MAX_ID: usize = 128;

/// The most dependencies of a member.
const MAX_NEEDS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_that_of_criu_coordinator() {
        let text = br#"{"id":"A","action":"pre-dump","dependencies":"B:C"}"#;
        let request = Request::parse(text).unwrap();
        let needs = vec!["B".to_owned(), "C".to_owned()];
        let what = What::Step { step: Step::PreDump, needs, hold: false };
        assert_eq!(request, Request { id: "A".into(), what });
        assert_eq!(Request::parse(request.to_json().as_bytes()), Ok(request));
        let text = br#"{"id":"kubescr","action":"add-dependencies","dependencies":{"A":["B"]}}"#;
        let request = Request::parse(text).unwrap();
        assert_eq!(Request::parse(request.to_json().as_bytes()), Ok(request));
    }

    #[test]
    fn requests_that_are_none_are_refused_with_the_reason() {
        for (text, why) in [
            ("[]", "no JSON"),
            ("{}", "lacks `id`"),
            (r#"{"id":1,"action":"pre-dump"}"#, "`id` is no string"),
            (r#"{"id":"","action":"pre-dump"}"#, "1 to 128 bytes"),
            (r#"{"id":"a:b","action":"pre-dump"}"#, "a colon"),
            (r#"{"id":"a","action":"../x"}"#, "unknown action"),
            (r#"{"id":"a","action":"pre-stream"}"#, "takes no images"),
            (r#"{"id":"a","action":"pre-dump","dependencies":{}}"#, "is no string"),
            (r#"{"id":"a","action":"add-dependencies","dependencies":"b"}"#, "is no object"),
            (r#"{"id":"a","action":"add-dependencies","dependencies":{"b":"c"}}"#, "no list"),
        ] {
            let error = Request::parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn the_end_of_an_object_is_found_whatever_is_inside() {
        let object = br#" {"a":"}\"}","b":[{}]}"#;
        let mut scan = Scan::default();
        for (at, byte) in object.iter().enumerate() {
            assert_eq!(scan.take(*byte).unwrap(), at + 1 == object.len(), "{at}");
        }
        assert!(Scan::default().take(b'G').is_err());
    }
}
