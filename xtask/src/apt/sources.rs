//! The machine's own package sources, in both of apt's notations (`sources.list(5)`).

use std::fmt::Write;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::Result;
use crate::os::Os;

/// An enabled source of binary packages.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Source {
    pub(crate) uris: Vec<String>,
    pub(crate) suites: Vec<String>,
    /// The components; empty for a repository without suites, whose `suites` is a path.
    pub(crate) components: Vec<String>,
    /// The options of this source in the machine's files, as the key that apt trusts.
    pub(crate) options: Vec<(String, String)>,
}

impl Source {
    /// The source as a stanza of a `.sources` file: one architecture, and only its packages.
    pub(crate) fn stanza(&self, architecture: &str) -> String {
        let mut stanza = String::from("Types: deb\nTargets: Packages\n");
        let mut field = |name: &str, value: &str| {
            if !value.is_empty() {
                let _ = writeln!(stanza, "{name}: {value}");
            }
        };
        field("Architectures", architecture);
        field("URIs", &self.uris.join(" "));
        field("Suites", &self.suites.join(" "));
        field("Components", &self.components.join(" "));
        for (name, value) in &self.options {
            field(name, value);
        }
        stanza
    }
}

/// Reads every enabled source of the machine.
///
/// # Errors
/// If a file exists and cannot be read. A file without permission is skipped: such files hold the
/// credentials of private repositories.
pub(crate) fn read() -> Result<Vec<Source>> {
    let apt = Path::new("/etc/apt");
    let mut files = list(&apt.join("sources.list.d"))?;
    files.insert(0, apt.join("sources.list"));
    let mut sources = Vec::new();
    for file in files {
        let notation = match file.extension().and_then(|e| e.to_str()) {
            Some("list") => lines,
            Some("sources") => stanzas,
            _ => continue,
        };
        match fs::read_to_string(&file) {
            Ok(text) => sources.extend(notation(&text)),
            Err(error) if is_absent_or_closed(&error) => {}
            Err(error) => return Err(format!("cannot read {}: {error}", file.display()).into()),
        }
    }
    Ok(sources)
}

/// Returns the distribution's own source among those of the machine: mirror, keyring and suite.
///
/// Others often name the same suite, so the distribution's name in the address comes first.
pub(crate) fn base<'a>(sources: &'a [Source], os: &Os) -> Option<&'a Source> {
    let own = |source: &&Source| source.uris.iter().any(|uri| uri.contains(&os.id));
    let suite = |source: &&Source| source.suites.contains(&os.codename);
    let main = || {
        let has_main = |source: &&Source| source.components.iter().any(|c| c == "main");
        sources.iter().filter(has_main)
    };
    main()
        .find(|source| own(source) && suite(source))
        .or_else(|| main().find(suite))
        .or_else(|| main().find(own))
}

/// Reads a source from each line: `deb [signed-by=KEYRING] URI SUITE COMPONENT...`.
fn lines(text: &str) -> Vec<Source> {
    text.lines().filter_map(line).collect()
}

fn line(line: &str) -> Option<Source> {
    let rest = line.split('#').next()?.trim().strip_prefix("deb")?;
    let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Source {
        uris: vec![words.next().filter(|uri| !uri.starts_with("cdrom:"))?],
        suites: vec![words.next()?],
        components: words.collect(),
        options: options
            .split_whitespace()
            .filter_map(|option| option.split_once('='))
            .filter(|(name, _)| is_kept(name))
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
    })
}

/// Reads a source from each stanza: `Field: value`, continued by lines that start with a blank.
fn stanzas(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            sources.extend(stanza(std::mem::take(&mut fields)));
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.into(), value.trim().into()));
        }
    }
    sources
}

fn stanza(fields: Vec<(String, String)>) -> Option<Source> {
    let mut source = Source::default();
    let mut types = Vec::new();
    for (name, value) in fields {
        let words = || value.split_whitespace().map(str::to_owned).collect();
        match name.to_ascii_lowercase().as_str() {
            "types" => types = words(),
            "uris" => source.uris = words(),
            "suites" => source.suites = words(),
            "components" => source.components = words(),
            "enabled" if FALSE.contains(&value.as_str()) => return None,
            _ if is_kept(&name) => source.options.push((name, value)),
            _ => {}
        }
    }
    let complete = !source.uris.is_empty() && !source.suites.is_empty();
    (complete && types.iter().any(|t: &String| t == "deb")).then_some(source)
}

/// Tells if an option is copied to our own stanza. Both notations spell most options alike. The
/// architecture and the index files are our own choice.
fn is_kept(option: &str) -> bool {
    let dropped = ["enabled", "arch", "architectures", "lang", "languages", "target", "targets"];
    !dropped.contains(&option.to_ascii_lowercase().as_str())
}

fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if is_absent_or_closed(&error) => return Ok(Vec::new()),
        Err(error) => return Err(format!("cannot list {}: {error}", dir.display()).into()),
    };
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

fn is_absent_or_closed(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied)
}

/// The values that apt reads as "no".
const FALSE: &[&str] = &["no", "false", "without", "off", "disable", "0"];

#[cfg(test)]
mod tests {
    use super::*;

    fn os(id: &str, codename: &str) -> Os {
        Os { id: id.into(), like: Vec::new(), codename: codename.into(), name: String::new() }
    }

    #[test]
    fn stanzas_are_read_with_comments_and_several_suites() {
        let sources = stanzas(
            "# written by the installer\n\
             Types: deb deb-src\n\
             # a comment inside\n\
             URIs: http://mirror.example/debian\n\
             Suites: bookworm bookworm-updates\n\
             Components: main contrib\n\
             Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\
             \n\
             Types: deb-src\n\
             URIs: http://mirror.example/debian\n\
             Suites: bookworm\n\
             Components: main\n",
        );
        assert_eq!(sources.len(), 1);
        assert_eq!(sources[0].suites, ["bookworm", "bookworm-updates"]);
        assert_eq!(
            sources[0].stanza("amd64"),
            "Types: deb\nTargets: Packages\nArchitectures: amd64\n\
             URIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\n\
             Components: main contrib\n\
             Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        );
    }

    #[test]
    fn a_key_written_into_the_stanza_stays_whole() {
        let key = "Types: deb\nURIs: http://ppa.example/ubuntu/\nSuites: noble\nComponents: main\n\
                   Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n";
        let sources = stanzas(key);
        let (name, value) = &sources[0].options[0];
        assert_eq!(name, "Signed-By");
        assert_eq!(value, "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF");
        assert_eq!(stanzas(&sources[0].stanza("amd64")), sources);
    }

    #[test]
    fn a_disabled_stanza_is_left_out() {
        let text = "Enabled: no\nTypes: deb\nURIs: http://a.example\nSuites: x\nComponents: main\n";
        assert_eq!(stanzas(text), []);
        assert_eq!(stanzas(&text.replace("no", "yes")).len(), 1);
    }

    #[test]
    fn lines_are_read_with_options_and_comments() {
        let sources = lines(
            "# deb http://old.example/debian jessie main\n\
             deb cdrom:[Debian 11]/ bullseye main\n\
             deb-src http://mirror.example/debian bullseye main\n\
             deb\thttp://mirror.example/debian bullseye main contrib # the mirror\n\
             deb [arch=amd64 signed-by=/k.gpg trusted=yes] https://x.example/apt ./\n",
        );
        assert_eq!(sources.len(), 2);
        assert_eq!(sources[0].components, ["main", "contrib"]);
        assert_eq!(
            sources[1].stanza("arm64"),
            "Types: deb\nTargets: Packages\nArchitectures: arm64\nURIs: https://x.example/apt\n\
             Suites: ./\nsigned-by: /k.gpg\ntrusted: yes\n"
        );
    }

    #[test]
    fn the_distribution_is_told_from_others_with_the_same_suite() {
        let sources = lines(
            "deb https://tool.example/apt bookworm main\n\
             deb https://container.example/linux/debian bookworm stable\n\
             deb http://mirror.example/debian bookworm-updates main\n\
             deb http://mirror.example/debian bookworm main\n",
        );
        let base = base(&sources, &os("debian", "bookworm"));
        assert_eq!(base, Some(&sources[3]));
    }

    #[test]
    fn a_mirror_of_another_name_or_suite_is_found() {
        let sources = lines("deb http://mirror.example/apt bookworm main\n");
        assert!(base(&sources, &os("debian", "bookworm")).is_some());
        let sources = lines("deb http://mirror.example/debian unstable main\n");
        assert!(base(&sources, &os("debian", "forky")).is_some());
        let sources = lines("deb http://mirror.example/apt unstable main\n");
        assert_eq!(base(&sources, &os("debian", "forky")), None);
    }
}
