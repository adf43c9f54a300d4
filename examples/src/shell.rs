//! `completions` and `man`: scripts for shells and manual pages, made from the words' command
//! lines.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command, ValueEnum};
use clap_complete::Shell;

use crate::cri_proxy;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::new_file::NewFile;
use crate::stdout::Stdout;
use crate::tool::{Fallible, Tool};
use crate::usage;
use crate::word::{NAME, Table};

/// Options of `completions`.
#[derive(Args)]
pub(crate) struct Completions {
    /// The shell that is to complete command lines
    shell: For,
    /// Complete command lines of the link with this word's name, or of criu-cri-proxy, instead of
    /// those of criu-rs
    word: Option<String>,
}

/// A shell that completions can be made for.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum For {
    Bash,
    Zsh,
    Fish,
}

impl Tool for Completions {
    const WORD: &'static str = "completions";
    const ABOUT: &'static str = "Prints a script that completes command lines in a shell.";
    const MORE: &'static str = "\
Examples:
  source <(criu-rs completions bash)
  criu-rs completions bash > /etc/bash_completion.d/criu-rs
  criu-rs completions zsh > ~/.zfunc/_criu-rs
  criu-rs completions fish > ~/.config/fish/completions/criu-rs.fish
  criu-rs completions bash crit     of the link crit, which `criu-rs links` makes

Exit status:
  0  done
  1  standard output cannot be written
  2  wrong usage";

    fn run(self, name: &str, table: &Table) -> Fallible<ExitCode> {
        let (mut command, program) = match &self.word {
            None => ((table.command)(true), NAME),
            Some(word) if word == cri_proxy::NAME => (cri_proxy::command(), cri_proxy::NAME),
            Some(word) => {
                let row = table.find(word).ok_or_else(|| no_word(table, name, word))?;
                ((row.shown)(), row.name)
            }
        };
        let shell = match self.shell {
            For::Bash => Shell::Bash,
            For::Zsh => Shell::Zsh,
            For::Fish => Shell::Fish,
        };
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command, program, &mut script);
        // For a name with a dash, clap_complete 4.6 looks up words under one name and lists them
        // under another, so that bash would complete nothing behind a word.
        let (listed, looked_up) = (program.replace('-', "__subcmd__"), program.replace('-', "__"));
        print(String::from_utf8_lossy(&script).replace(&listed, &looked_up).as_bytes())
    }
}

/// Options of `man`.
#[derive(Args)]
pub(crate) struct Man {
    /// The word whose page to print, or criu-cri-proxy, or the directory that all pages go into; the
    /// page of criu-rs unless given
    #[arg(value_name = "WORD|DIR")]
    what: Option<PathBuf>,
}

impl Tool for Man {
    const WORD: &'static str = "man";
    const ABOUT: &'static str = "Prints a manual page, or writes all of them into a directory.";
    const MORE: &'static str = "\
Examples:
  criu-rs man dump | man -l -
  criu-rs man ~/.local/share/man/man1    write criu-rs.1, criu-rs-dump.1 and so on
  criu-rs man ./dump                     write them into a directory with the name of a word

Exit status:
  0  done
  1  a page cannot be written
  2  wrong usage";

    fn run(self, name: &str, table: &Table) -> Fallible<ExitCode> {
        let Some(what) = self.what else {
            return print(&page((table.command)(false))?);
        };
        if what.as_os_str() == cri_proxy::NAME {
            return print(&page(cri_proxy::command())?);
        }
        if let Some(row) = what.to_str().and_then(|word| table.find(word)) {
            return print(&page(in_program((row.shown)(), NAME))?);
        }
        if !what.is_dir() {
            return Err(no_word(table, name, &what.display().to_string()).into());
        }
        write(&what, (table.command)(false), None)?;
        write(&what, cri_proxy::command(), None)?;
        for row in table.words {
            write(&what, (row.shown)(), Some(NAME))?;
        }
        Ok(Exit::Done.into())
    }
}

fn no_word(table: &Table, name: &str, word: &str) -> Fault {
    let words = table.words.iter().map(|row| row.name).collect::<Vec<_>>().join(", ");
    usage::fault(name, format!("unknown word `{word}`\nthe words are {words}"))
}

/// Writes the page of a command, and those of its own subcommands unless it is the whole program.
fn write(dir: &Path, command: Command, parent: Option<&str>) -> Fallible<()> {
    let Some(parent) = parent else { return save(dir, command) };
    let command = in_program(command, parent);
    let name = command.get_name().to_owned();
    let words: Vec<Command> = command.get_subcommands().cloned().collect();
    save(dir, command)?;
    for word in words {
        write(dir, word, Some(&name))?;
    }
    Ok(())
}

/// Gives a command the name of its page: `criu-rs-dump`.
fn in_program(command: Command, parent: &str) -> Command {
    let words = format!("{} {}", parent.replacen("criu-rs-", "criu-rs ", 1), command.get_name());
    let name = format!("{parent}-{}", command.get_name());
    command.name(name).bin_name(words)
}

fn save(dir: &Path, command: Command) -> Fallible<()> {
    let path = dir.join(format!("{}.1", command.get_name()));
    let page = page(command)?;
    let failed = |error| Fault::system(format!("write {}", path.display()), error);
    Ok(NewFile::write_public(&path, &page).map_err(failed)?)
}

fn page(command: Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let has_words = command.has_subcommands();
    // Without a date the next field would take its place.
    let man = clap_mangen::Man::new(command).section("1").date(env!("CARGO_PKG_VERSION"));
    let man = man.source(NAME).manual("criu-rs");
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    page.extend(sections(&text).into_bytes());
    man.render_options_section(&mut page)?;
    if has_words {
        man.render_subcommands_section(&mut page)?;
    }
    Ok(page)
}

/// Turns the text that follows the usage in help into sections of a page, examples line by line.
fn sections(text: &str) -> String {
    let (mut page, mut is_listed) = (String::new(), false);
    for line in text.lines() {
        let escaped = line.replace('\\', "\\e").replace('-', "\\-");
        let heading = line.strip_suffix(':').filter(|line| !line.contains(['.', ',']));
        page += &match heading {
            Some(heading) if !line.starts_with(' ') => {
                let end = if is_listed { ".fi\n" } else { "" };
                is_listed = false;
                format!("{end}.SH \"{}\"\n", heading.to_uppercase())
            }
            _ if line.is_empty() => ".PP\n".to_owned(),
            _ if line.starts_with(' ') && !is_listed => {
                is_listed = true;
                format!(".nf\n{escaped}\n")
            }
            _ if !line.starts_with(' ') && is_listed => {
                is_listed = false;
                format!(".fi\n.SH NOTES\n\\&{escaped}\n")
            }
            _ => format!("\\&{escaped}\n"),
        };
    }
    if is_listed {
        page += ".fi\n";
    }
    page
}

fn print(text: &[u8]) -> Fallible<ExitCode> {
    let mut out = Stdout::lock();
    out.write_all(text)?;
    out.flush()?;
    Ok(Exit::Done.into())
}
