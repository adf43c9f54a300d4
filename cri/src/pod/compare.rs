//! Configurations of a restore beside those of the checkpoint.

use std::collections::{BTreeMap, BTreeSet};

use criu_archive::record::{Container, Record};

use super::refusal::Refusal;
use crate::proto::{ContainerConfig, Kept};

/// Configurations by the names of their containers.
pub(super) type Configs = BTreeMap<String, Kept<ContainerConfig>>;

/// Pairs each container of a record with the configuration of its name. Returns what differs and
/// does not matter, in words.
///
/// # Errors
/// If the names are not the same, each once, or a configuration asks for another image, command,
/// working directory or user than that of the processes in the checkpoint.
pub(super) fn paired(
    record: &Record,
    configs: &[Kept<ContainerConfig>],
) -> Result<(Configs, Vec<String>), Refusal> {
    let mut by_name = BTreeMap::new();
    let mut notes = Vec::new();
    for kept in configs {
        let config = kept.read().map_err(|_| Refusal::invalid("a ContainerConfig is malformed"))?;
        let name = config.metadata.as_ref().map(|name| name.name.clone()).unwrap_or_default();
        if let Some(container) = record.container(&name) {
            notes.extend(compared(container, &config)?);
        }
        if by_name.insert(name.clone(), kept.clone()).is_some() {
            let text = format!("two container_configs have the name `{}`", name.escape_debug());
            return Err(Refusal::invalid(text));
        }
    }
    let saved: BTreeSet<&str> = record.containers.iter().map(|one| &*one.name).collect();
    let given: BTreeSet<&str> = by_name.keys().map(String::as_str).collect();
    if saved != given {
        let list = |names: &BTreeSet<&str>| {
            let shown: Vec<_> = names.iter().map(|name| name.escape_debug().to_string()).collect();
            if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
        };
        let text = format!(
            "container_configs are not those of the checkpoint: found {}, wanted {}",
            list(&given),
            list(&saved)
        );
        return Err(Refusal::invalid(text));
    }
    Ok((by_name, notes))
}

/// Compares the configuration of one container. Values are not told: they may be secret.
fn compared(container: &Container, config: &ContainerConfig) -> Result<Option<String>, Refusal> {
    let saved = Kept::<ContainerConfig>::from_bytes(container.config.0.clone());
    let Some(saved) =
        saved.ok().and_then(|saved| saved.read().ok()).filter(|_| !container.config.is_empty())
    else {
        return Ok(Some(format!("container {}: the record has no configuration", container.name)));
    };
    let mut different = Vec::new();
    if !is_image(container, &saved, config) {
        different.push("image");
    }
    for (what, is_same) in [
        ("command", saved.command == config.command),
        ("args", saved.args == config.args),
        ("working directory", saved.working_dir == config.working_dir),
        ("user and groups", credentials(&saved) == credentials(config)),
    ] {
        if !is_same {
            different.push(what);
        }
    }
    if !different.is_empty() {
        let text = format!(
            "container {}: the configuration differs from that of the checkpoint, whose processes \
             it cannot change: {}",
            container.name,
            different.join(", ")
        );
        return Err(Refusal::invalid(text));
    }
    let environment = |config: &ContainerConfig| -> BTreeMap<String, Vec<u8>> {
        config.envs.iter().map(|one| (one.key.clone(), one.value.clone())).collect()
    };
    let (before, now) = (environment(&saved), environment(config));
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let changed: Vec<String> = names
        .into_iter()
        .filter(|name| before.get(*name) != now.get(*name))
        .map(|name| name.escape_debug().to_string())
        .collect();
    Ok((!changed.is_empty()).then(|| {
        format!(
            "container {}: its processes keep their environment, and these variables differ: {}",
            container.name,
            changed.join(", ")
        )
    }))
}

/// Says whether a configuration asks for the image of the checkpoint, by one of its names.
fn is_image(container: &Container, saved: &ContainerConfig, config: &ContainerConfig) -> bool {
    let names = |config: &ContainerConfig| {
        let image = config.image.clone().unwrap_or_default();
        [image.image, image.user_specified_image, image.image_ref]
    };
    let own = [container.image.name.clone(), container.image.digest.clone()];
    let known: BTreeSet<String> = names(saved).into_iter().chain(own).collect();
    names(config).iter().any(|name| !name.is_empty() && known.contains(name))
}

/// The ids of the user and the groups.
fn credentials(config: &ContainerConfig) -> (Option<i64>, Option<i64>, String, Vec<i64>) {
    let security = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let Some(security) = security else { return Default::default() };
    (
        security.run_as_user.map(|id| id.value),
        security.run_as_group.map(|id| id.value),
        security.run_as_username.clone(),
        security.supplemental_groups.clone(),
    )
}

#[cfg(test)]
mod tests {
    use criu_archive::record::{Image, Tool, ToolKind};

    use super::*;
    use crate::proto::{ContainerMetadata, ImageSpec, KeyValue};

    fn config(name: &str) -> ContainerConfig {
        ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.into(), attempt: 0 }),
            image: Some(ImageSpec { image: "i:1".into(), ..ImageSpec::default() }),
            command: vec!["/run".into()],
            envs: vec![KeyValue { key: "TOKEN".into(), value: b"hunter2".to_vec() }],
            ..ContainerConfig::default()
        }
    }

    fn record(names: &[&str]) -> Record {
        let mut record = Record::new("test");
        for name in names {
            let tool = Tool::new(ToolKind::Criu, "4.3");
            let mut container = Container::new(*name, "id", tool);
            container.image = Image::new("i:1", "i@sha256:0");
            container.config = Kept::new(&config(name)).bytes().to_vec().into();
            record.containers.push(container);
        }
        record
    }

    #[test]
    fn configurations_name_exactly_the_containers() {
        let record = record(&["a", "b"]);
        let kept = |names: &[&str]| -> Vec<_> {
            names.iter().map(|name| Kept::new(&config(name))).collect()
        };
        let (pairs, notes) = paired(&record, &kept(&["b", "a"])).expect("the same");
        assert_eq!((pairs.len(), notes.len()), (2, 0));
        for names in [&["a"][..], &["a", "b", "c"], &["a", "a", "b"], &[], &["a", "c"]] {
            assert!(paired(&record, &kept(names)).is_err(), "{names:?}");
        }
    }

    #[test]
    fn what_differs_is_said_without_values() {
        let record = record(&["a"]);
        let changed = |change: fn(&mut ContainerConfig)| {
            let mut config = config("a");
            change(&mut config);
            paired(&record, &[Kept::new(&config)])
        };
        let by_digest = changed(|config| {
            config.image = Some(ImageSpec { image: "i@sha256:0".into(), ..ImageSpec::default() });
        });
        assert!(by_digest.is_ok());
        let image = changed(|config| config.image = None).expect_err("another image");
        assert!(image.text().ends_with("change: image"), "{image}");
        let command = changed(|config| config.command.push("secret".into())).expect_err("command");
        assert!(command.text().contains("command") && !command.text().contains("secret"));
        let (_, notes) = changed(|config| {
            config.envs[0].value = b"other".to_vec();
            config.envs.push(KeyValue { key: "NEW".into(), value: b"hunter3".to_vec() });
        })
        .expect("a note");
        assert!(notes[0].ends_with("differ: NEW, TOKEN"), "{notes:?}");
        assert!(!notes[0].contains("hunter"), "{notes:?}");
    }
}
