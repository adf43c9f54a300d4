//! The form of a record: read and written.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use criu_archive::record::{Holder, RECORD, Record, State, Wire};
use criu_archive::{Archive, ErrorKind};
use serde_json::{Value, json};

use super::made::{archive, directory, whole};

#[test]
fn unknown_fields_of_every_object_stay() {
    let record = Record::parse(whole().to_string().as_bytes()).unwrap();
    assert_eq!(record.state, State::Other("hibernating".into()));
    assert_eq!(record.pod.as_ref().unwrap().config, Wire(vec![1, 2]));
    let again: Value = serde_json::from_slice(&record.to_json().unwrap()).unwrap();
    assert_eq!(again, whole());
    // Every object has one.
    let mut objects = 0;
    count(&again, &mut objects);
    assert_eq!(objects, 19);
}

/// Counts the objects with the unknown field.
fn count(value: &Value, objects: &mut u32) {
    match value {
        Value::Object(fields) => {
            *objects += u32::from(fields.contains_key("x"));
            fields.values().for_each(|value| count(value, objects));
        }
        Value::Array(values) => values.iter().for_each(|value| count(value, objects)),
        _ => {}
    }
}

#[test]
fn a_record_is_found_in_a_directory_an_archive_and_a_folder_of_an_archive() {
    let (directory, record, _) = directory("record-places");
    assert_eq!(Record::open(&directory).unwrap(), record);
    let mode = fs::metadata(directory.join(RECORD)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let to = directory.with_extension("tar");
    for top in ["", "shop/"] {
        archive(&directory, top, &to);
        assert_eq!(Record::open(&to).unwrap(), record, "{top}");
        let holder = Holder::archive(&Archive::open(&to).unwrap());
        let files: Vec<String> = holder.files().unwrap().into_iter().map(|file| file.0).collect();
        assert_eq!(files, ["criu-record.json", "db/core-1.img", "db/pages-1.img", "web.tar"]);
    }
}

#[test]
fn a_record_takes_the_place_of_another_one_or_leaves_it() {
    let (directory, mut record, _) = directory("record-replaced");
    let before = fs::read(directory.join(RECORD)).unwrap();
    // A record that nobody could read is not written.
    record.containers[1].name = "web".to_owned();
    let error = record.write(&directory).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Refused(_)), "{error}");
    assert_eq!(fs::read(directory.join(RECORD)).unwrap(), before);
    // Neither is one into a directory that is not there.
    record.containers[1].name = "db".to_owned();
    let error = record.write(directory.join("none")).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Write(_)), "{error}");
    record.made_by = "test 2".to_owned();
    record.write(&directory).unwrap();
    assert_eq!(Record::open(&directory).unwrap().made_by, "test 2");
    let names: Vec<String> = Holder::open(&directory)
        .unwrap()
        .files()
        .unwrap()
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    assert_eq!(names, ["criu-record.json", "db/core-1.img", "db/pages-1.img", "web.tar"]);
}

#[test]
fn states_follow_on_one_another_as_the_drawing_says() {
    let states = [
        State::Capturing,
        State::Complete,
        State::Failed,
        State::Restoring,
        State::Restored,
        State::Other("hibernating".into()),
    ];
    let follow = |from: &State| -> Vec<String> {
        let next = states.iter().filter(|to| from.can_become(to));
        next.map(ToString::to_string).collect()
    };
    let expected: [&[&str]; 6] = [
        &["complete", "failed"],
        &["restoring"],
        &[],
        &["complete", "failed", "restored"],
        &["restoring"],
        &[],
    ];
    for (state, expected) in states.iter().zip(expected) {
        assert_eq!(follow(state), expected, "{state}");
        assert_eq!(state.is_usable(), expected.contains(&"restoring"));
    }
    let mut state = State::Capturing;
    let error = state.advance(State::Restored).unwrap_err();
    assert_eq!(error.to_string(), "a checkpoint that is `capturing` cannot become `restored`");
    assert_eq!(state, State::Capturing);
    for next in ["complete", "restoring", "complete", "restoring", "restored", "restoring"] {
        state.advance(State::from(next)).unwrap();
    }
}

#[test]
fn what_is_not_known_is_not_written() {
    let json: Value = serde_json::from_slice(&Record::new("a").to_json().unwrap()).unwrap();
    let expected = json!({"version": 1, "made_by": "a", "state": "capturing", "containers": []});
    assert_eq!(json, expected);
}

#[test]
fn secrets_are_not_shown_in_debug_output() {
    let mut record = whole();
    let secret = "hunter2";
    let config = json!({"envs": [{"key": "PASSWORD", "value": secret}], "args": [secret]});
    record["containers"][0]["config_json"] = config.clone();
    record["containers"][0]["config"] = "aHVudGVyMg==".into();
    record["containers"][0]["status"] = config.clone();
    record["pod"]["config_json"] = config;
    record["pod"]["annotations"]["last-applied"] = secret.into();
    record["pod"]["newer"] = secret.into();
    let record = Record::parse(record.to_string().as_bytes()).unwrap();
    assert_eq!(record.containers[0].config, Wire(secret.into()));
    for text in [format!("{record:?}"), format!("{record:#?}")] {
        assert!(!text.contains(secret), "{text}");
        assert!(text.contains("last-applied") && text.contains("config_json"), "{text}");
    }
}
