//! ELF core files: saved tasks in the format that debuggers open.
//!
//! ```text
//! ELF header, program headers
//! notes          registers of each thread, the process, its auxiliary vector, its mapped files
//! segments       memory, at page boundaries of the file
//! ```

mod aarch64;
mod elf;
mod notes;
mod segments;
mod x86;

use std::fmt;
use std::io::{self, Seek, SeekFrom, Write};

use crate::error::{Error, ErrorKind, Result, WriteError};
use crate::kind;
use crate::memory::{Memory, PageSource};
use crate::proto::CoreEntry;
use crate::proto::core_entry::March;
use crate::task::{Task, Thread};
use elf::Layout;
use segments::Segment;

/// The core file of one task, as the kernel would have written it at the moment of the dump. The
/// file is written as a stream, on a host of any architecture.
///
/// Memory that the set does not hold is described and left out: debuggers read unmodified pages of
/// mapped files from the files. Gaps of untouched memory up to 64 KiB are written as zeros. Larger
/// gaps are left out and read as zero.
///
/// ```no_run
/// use std::fs::File;
/// use criu_images::{CoreDump, ImageSet};
///
/// let set = ImageSet::open("/ckpt")?;
/// let task = set.checkpoint()?.root();
/// let core = CoreDump::new(&task)?;
/// eprintln!("{core}");
/// core.write_to(&mut File::create("core")?)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a core file is not there until `write_to` writes it"]
pub struct CoreDump<'a> {
    pid: u32,
    threads: usize,
    memory: Memory<'a>,
    machine: &'static Machine,
    notes: Vec<u8>,
    segments: Vec<Segment>,
    layout: Layout,
}

/// Properties of core files that depend on the architecture.
#[derive(Debug)]
struct Machine {
    /// `e_machine` of the ELF header.
    elf: u16,
    /// Returns the general registers, in the order of ptrace(2), 8 bytes each.
    registers: fn(&CoreEntry) -> Option<Vec<u64>>,
    /// Returns the other register sets.
    sets: fn(&CoreEntry) -> Vec<Set>,
}

/// A note: its name, its type, its content.
type Set = (&'static str, u32, Vec<u8>);

impl<'a> CoreDump<'a> {
    /// Plans the core file of a task. Pages are not yet read.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] for a zombie, which has no memory; [`ErrorKind::Unsupported`] for
    /// 32-bit tasks and architectures other than x86-64 and aarch64; the errors of reading the
    /// task's images.
    pub fn new(task: &Task<'a>) -> Result<Self> {
        let at_fault = |kind| Error::new(kind::CORE.file_name(task.pid().into()), kind);
        let memory = task
            .memory()?
            .ok_or_else(|| Error::new(kind::MM.file_name(task.pid().into()), ErrorKind::Missing))?;
        let threads = task.threads()?;
        let mut machine = None;
        let mut notes = notes::Notes::default();
        for (index, thread) in threads.iter().enumerate() {
            let found = machine_of(thread).map_err(at_fault)?;
            let registers = (found.registers)(thread.core()).ok_or_else(|| {
                let lacks = "lacks registers of the architecture it names";
                Error::new(kind::CORE.file_name(thread.tid().into()), ErrorKind::Malformed(lacks))
            })?;
            notes.thread(task, thread, &registers);
            if index == 0 {
                notes.process(task, &memory);
            }
            for (name, kind, content) in (found.sets)(thread.core()) {
                notes.add(name, kind, &content);
            }
            machine.get_or_insert(found);
        }
        let machine = machine.ok_or_else(|| at_fault(ErrorKind::Malformed("has no threads")))?;
        let notes = notes.finish();
        let segments = segments::plan(&memory)?;
        let page = memory.page_size().bytes();
        let layout = Layout::new(notes.len() as u64, &segments, page)
            .ok_or_else(|| at_fault(ErrorKind::Malformed("needs a core file above 2^63 bytes")))?;
        let (pid, threads) = (task.pid(), threads.len());
        Ok(Self { pid, threads, memory, machine, notes, segments, layout })
    }

    /// Returns the number of bytes of the core file.
    pub fn size(&self) -> u64 {
        self.layout.size
    }

    /// Returns the number of bytes of memory in the core file.
    pub fn memory_size(&self) -> u64 {
        self.segments.iter().map(|segment| segment.stored).sum()
    }

    /// Returns the number of bytes that the dump kept back for a lazy restore. A debugger reads
    /// zeros there.
    pub fn kept_back(&self) -> u64 {
        let lazy = self.segments.iter().filter(|segment| segment.is_lazy);
        lazy.map(|segment| segment.end - segment.start).sum()
    }

    /// Writes the core file, one megabyte at a time.
    ///
    /// # Errors
    /// The errors of reading the pages, and of `out`. After an error the output is not a core file.
    pub fn write_to(&self, out: &mut impl Write) -> Result<(), WriteError> {
        self.write(out, |out, mut size| {
            let zeros = vec![0; CHUNK];
            while size > 0 {
                let now = usize::try_from(size).unwrap_or(CHUNK).min(CHUNK);
                out.write_all(zeros.get(..now).unwrap_or_default())?;
                size -= now as u64;
            }
            Ok(())
        })
    }

    /// Writes the core file into an empty file. Where a pages file has a hole of a MiB or more, the
    /// core file has one, too.
    ///
    /// # Errors
    /// The errors of [`write_to`](Self::write_to).
    pub fn write_sparse_to(&self, out: &mut (impl Write + Seek)) -> Result<(), WriteError> {
        self.write(out, |out, size| {
            // The last byte is written, so that the file is as long as it should be.
            let skipped = i64::try_from(size - 1).map_err(io::Error::other)?;
            out.seek(SeekFrom::Current(skipped))?;
            out.write_all(&[0])
        })
    }

    /// Writes the core file. `skip` writes a hole of some bytes, at least one.
    fn write<W: Write>(
        &self,
        out: &mut W,
        skip: impl Fn(&mut W, u64) -> io::Result<()>,
    ) -> Result<(), WriteError> {
        let mut head = elf::head(self.machine.elf, &self.layout, &self.segments);
        head.extend(&self.notes);
        head.resize(usize::try_from(self.layout.data).unwrap_or(head.len()).max(head.len()), 0);
        out.write_all(&head)?;
        let mut buffer = vec![0; CHUNK];
        for segment in &self.segments {
            let mut address = segment.start;
            let end = segment.start.saturating_add(segment.stored);
            while address < end {
                let hole = self.memory.hole(address)?.map(|hole| hole.min(end));
                if let Some(hole) = hole.filter(|hole| *hole > address) {
                    skip(out, hole - address)?;
                    address = hole;
                    continue;
                }
                let now = usize::try_from(end - address).unwrap_or(CHUNK).min(CHUNK);
                let Some(part) = buffer.get_mut(..now) else { break };
                self.memory.read_at(address, part)?;
                out.write_all(part)?;
                address = address.saturating_add(now as u64);
            }
        }
        Ok(out.flush()?)
    }
}

impl fmt::Display for CoreDump<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, threads, .. } = self;
        let plural = if *threads == 1 { "" } else { "s" };
        write!(f, "core of task {pid}: {threads} thread{plural}")?;
        write!(f, ", {} bytes of memory", self.memory_size())?;
        match self.kept_back() {
            0 => Ok(()),
            bytes => write!(f, ", {bytes} bytes kept back by the dump"),
        }
    }
}

fn machine_of(thread: &Thread<'_>) -> Result<&'static Machine, ErrorKind> {
    let core = thread.core();
    match March::try_from(core.mtype) {
        Ok(March::X8664) if x86::is_32_bit(core) => {
            Err(ErrorKind::Unsupported("core files of 32-bit tasks"))
        }
        Ok(March::X8664) => Ok(&x86::MACHINE),
        Ok(March::Aarch64) => Ok(&aarch64::MACHINE),
        _ => Err(ErrorKind::Unsupported("core files of architectures other than x86-64, aarch64")),
    }
}

/// Bytes read and written at once.
const CHUNK: usize = 1 << 20;
