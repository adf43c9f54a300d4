//! A client of pages whose server sends arbitrary answers.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::OnceLock;

use arbitrary::{Arbitrary, Unstructured};
use criu_images::kind;
use criu_images::memory::PageObject;
use criu_rs::pages::{Client, Layout, Socket, page_size};

/// Questions of the client.
#[derive(Arbitrary, Debug)]
enum Ask {
    Fetch { pid: u32, page: u32, pages: u8 },
    Echo { pid: u32, page: u32, pages: u8, more: u8, fewer: bool },
    Parent { id: u32 },
    Send,
}

/// Runs a client. All answers are there before the first question.
pub fn run(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    let Ok((wide, asks)) = <(bool, Vec<Ask>)>::arbitrary(&mut bytes) else { return };
    let layout = if wide { Layout::Wide } else { Layout::Narrow };
    let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
    let mut answers = Vec::new();
    for ask in asks.iter().take(8) {
        if let Ask::Echo { pid, page, pages, more, fewer } = ask {
            answers.extend(echo(layout, *pid, *page, *pages, *more, *fewer));
        }
    }
    answers.extend(bytes.take_rest());
    answers.truncate(100 << 10);
    theirs.write_all(&answers).expect("a socket takes so much");
    theirs.shutdown(Shutdown::Write).expect("it is connected");
    let mut client = Client::new(Socket::from(ours), layout);
    for ask in asks.iter().take(8) {
        let result = match ask {
            Ask::Fetch { pid, page, pages } | Ask::Echo { pid, page, pages, .. } => {
                let address = u64::from(*page) * page_size().bytes();
                client.fetch(*pid, address, (*pages).into()).map(|found| {
                    let found = found.len() as u64;
                    let size = page_size().bytes();
                    assert!(found % size == 0 && found >= size && found / size <= (*pages).into());
                })
            }
            Ask::Parent { id } => client.parent_has(PageObject::Task(*id)).map(drop),
            Ask::Send => client.send_set(folder()).map(drop),
        };
        if let Err(error) = result {
            assert!(!error.to_string().is_empty());
        }
    }
    _ = client.close();
}

/// Makes an answer as a server gives it, or nearly.
fn echo(layout: Layout, pid: u32, page: u32, pages: u8, more: u8, fewer: bool) -> Vec<u8> {
    use criu_rs::pages::{Command, Header};
    let address = u64::from(page) * page_size().bytes();
    let pages = u64::from(pages).saturating_sub(fewer.into()) + u64::from(more / 200);
    let header = Header { command: Command::AddF, flags: 4, pages, address, id: pid.into() };
    let mut answer = header.to_bytes(layout).unwrap_or_default()[..layout.size()].to_vec();
    let size = usize::try_from(pages * page_size().bytes()).unwrap_or(0);
    answer.resize(answer.len() + size.min(32 << 10), 7);
    answer
}

/// Makes a set of one page, which is sent.
fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("criu-fuzz-set-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder among the temporary ones");
        let [head, runs] = [vec![8, 1], vec![8, 0x80, 0x20, 0x10, 1, 0x20, 4]];
        let mut image = [kind::IMG_COMMON, kind::PAGEMAP.magic].map(u32::to_le_bytes).concat();
        for message in [head, runs] {
            image.extend(u32::try_from(message.len()).unwrap_or(0).to_le_bytes());
            image.extend(message);
        }
        std::fs::write(folder.join("pagemap-1.img"), image).expect("a file of ours");
        std::fs::write(folder.join("pages-1.img"), [7; 4096]).expect("a file of ours");
        folder
    })
}
