//! A single image: its fields, and the bytes behind its entries.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::names::{device, word};
use super::rules::{Rule, rule};
use super::{Secret, known};
use crate::edit::{Patch, Value, rewrite};
use crate::error::{ErrorKind, Result};
use crate::extra::Payload;
use crate::frame::Image;
use crate::kind::{Extra, Kind};
use crate::schema::{Field, Label, Message, Type};
use crate::wire::{Reader, WireType};

/// Makes the image anew with everything private replaced.
pub(super) fn replaced(
    name: &str,
    bytes: &[u8],
    kind: &'static Kind,
    secret: &Secret,
) -> Result<Vec<u8>> {
    let mut filled = bytes.to_vec();
    fill(name, bytes, kind, secret, &mut filled)?;
    let new = rewrite(name, &filled, &mut |patch, bytes| fields(patch, bytes, secret))?;
    Ok(new.unwrap_or(filled))
}

/// Replaces the bytes behind the entries. They keep their number.
fn fill(
    name: &str,
    bytes: &[u8],
    kind: &'static Kind,
    secret: &Secret,
    filled: &mut [u8],
) -> Result<()> {
    // CRIU fills up with what its buffer holds, which may be the end of another content.
    let unit = match kind.extra {
        Extra::Shm => 4,
        Extra::Msg | Extra::Sem => 8,
        _ => 1,
    };
    let mut image = Image::parse(name, bytes, kind)?;
    while let Some(entry) = image.next_entry()? {
        let mut places = image.clone();
        let contents = match image.payload(&entry)? {
            Payload::None | Payload::Semaphores(_) => continue,
            Payload::Bytes(content) => vec![content],
            Payload::Tcp { inq, outq } => vec![inq, outq],
            Payload::Messages(messages) => messages.into_iter().map(|(_, bytes)| bytes).collect(),
            Payload::BpfMap { keys, values } => vec![keys, values],
        };
        for content in contents {
            if kind.extra == Extra::Msg {
                // Each message has an entry of its own.
                places.next_entry()?;
            }
            let start = places.position();
            places.padded(content.len() as u64, unit)?;
            let place = filled.get_mut(start..places.position()).unwrap_or_default();
            let Some((content, padding)) = place.split_at_mut_checked(content.len()) else {
                return Err(entry.fault(ErrorKind::Malformed("content outside the image")));
            };
            secret.filler.replace(content);
            padding.fill(0);
        }
        if places.position() != image.position() {
            return Err(entry.fault(ErrorKind::Malformed("bytes that belong to no content")));
        }
    }
    Ok(())
}

/// Fills the patch of a message.
fn fields(patch: &mut Patch, bytes: &[u8], secret: &Secret) -> Result<(), ErrorKind> {
    // Nobody knows what is in the fields of a newer CRIU.
    patch.remove_unknown();
    let Some(message) = Message::by_name(patch.message()) else { return Ok(()) };
    for field in message.fields {
        let Some(rule) = rule(message.name, field.name).filter(|rule| *rule != Rule::Keep) else {
            continue;
        };
        let mut found = values(bytes, field);
        if found.is_empty() {
            continue;
        }
        if field.label != Label::Repeated {
            // Of a field that is there twice, the last one counts.
            found.drain(..found.len() - 1);
        }
        let new = match rule {
            Rule::Zero => found.iter().map(zero).collect(),
            Rule::Ip => ip(&found, secret),
            _ => found.into_iter().map(|value| text(value, rule, secret)).collect::<Vec<_>>(),
        };
        patch.set(field.name, new);
    }
    Ok(())
}

/// Returns the values of a field, in the order of the message, which has been checked. Messages
/// inside the message are left to their own patches.
fn values(bytes: &[u8], field: &Field) -> Vec<Value> {
    let is_text = matches!(field.kind, Type::String | Type::Bytes);
    let mut values = Vec::new();
    if matches!(field.kind, Type::Message(_)) {
        return values;
    }
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        let Ok((number, wire)) = reader.key() else { break };
        let read = match wire {
            _ if number != field.number => reader.skip(wire),
            WireType::Varint => reader.varint().map(|number| values.push(Value::Number(number))),
            WireType::Fixed64 => reader.fixed64().map(|number| values.push(Value::Number(number))),
            WireType::Bytes if is_text => {
                reader.bytes().map(|bytes| values.push(Value::Bytes(bytes.to_vec())))
            }
            // Numbers in one piece.
            WireType::Bytes => reader.bytes().map(|bytes| {
                let mut packed = Reader::new(bytes);
                let number = |packed: &mut Reader<'_>| match field.kind {
                    Type::Fixed64 => packed.fixed64(),
                    _ => packed.varint(),
                };
                while let Ok(number) = number(&mut packed) {
                    values.push(Value::Number(number));
                }
            }),
            WireType::Fixed32 => reader.skip(wire),
        };
        if read.is_err() {
            break;
        }
    }
    values
}

fn zero(value: &Value) -> Value {
    match value {
        Value::Bytes(bytes) => Value::Bytes(vec![0; bytes.len()]),
        Value::Number(_) | Value::Signed(_) => Value::Number(0),
    }
}

/// Replaces an address of one word or four, which are in network order.
fn ip(words: &[Value], secret: &Secret) -> Vec<Value> {
    let bytes = |word: &Value| match word {
        Value::Number(word) => u32::try_from(*word).unwrap_or(0).to_le_bytes(),
        _ => [0; 4],
    };
    let octets: Vec<u8> = words.iter().flat_map(bytes).collect();
    let address = if let Ok(octets) = <[u8; 4]>::try_from(&octets[..]) {
        IpAddr::V4(Ipv4Addr::from(octets))
    } else if let Ok(octets) = <[u8; 16]>::try_from(&octets[..]) {
        IpAddr::V6(Ipv6Addr::from(octets))
    } else {
        return words.iter().map(zero).collect();
    };
    let octets = match secret.addresses.ip(address) {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let words = octets.chunks_exact(4).map(|word| word.first_chunk().copied().unwrap_or_default());
    words.map(|word| Value::Number(u32::from_le_bytes(word).into())).collect()
}

fn text(value: Value, rule: Rule, secret: &Secret) -> Value {
    let Value::Bytes(bytes) = value else { return value };
    Value::Bytes(match rule {
        Rule::Path => secret.names.path(&bytes),
        Rule::Word => secret.names.word(&bytes),
        Rule::Device => device(&bytes, secret),
        Rule::Key => key(&bytes, secret),
        Rule::Options => options(&bytes, secret),
        Rule::Values => values_of(&bytes, secret),
        Rule::Address => word(&bytes, secret),
        Rule::Unix => unix(&bytes, secret),
        Rule::Hardware => secret.addresses.hardware(&bytes),
        Rule::Filler => {
            let mut bytes = bytes;
            secret.filler.replace(&mut bytes);
            bytes
        }
        Rule::Siginfo => {
            let mut bytes = bytes;
            let sent = bytes.get_mut(SENDER..).unwrap_or_default();
            sent.fill(0);
            bytes
        }
        Rule::Keep | Rule::Ip | Rule::Zero => bytes,
    })
}

/// Replaces a path, or a name. The names of file systems without a device stay.
fn key(key: &[u8], secret: &Secret) -> Vec<u8> {
    if known::is_mount_source(key) { key.to_vec() } else { secret.names.path(key) }
}

/// Replaces what is private in the options of a mount: values, such as lists of paths, and words
/// that are no usual option. A value may have commas, so a word may be the end of one. Numbers
/// stay.
pub(super) fn options(options: &[u8], secret: &Secret) -> Vec<u8> {
    let replaced = options.split(|byte| *byte == b',').map(|option| {
        let Some(at) = option.iter().position(|byte| *byte == b'=') else {
            return option_name(option, secret);
        };
        let (name, value) = option.split_at(at);
        let value = value.get(1..).unwrap_or_default();
        let is_path = value.contains(&b'/');
        let value = if is_path { paths(value, secret) } else { words(value, secret) };
        [&*option_name(name, secret), b"=", &value].concat()
    });
    replaced.collect::<Vec<_>>().join(&b',')
}

/// Replaces the name of an option, or the end of a value with commas.
fn option_name(name: &[u8], secret: &Secret) -> Vec<u8> {
    if known::is_option(name) {
        return name.to_vec();
    }
    if name.contains(&b'/') { paths(name, secret) } else { secret.names.word(name) }
}

/// Replaces paths with colons between them.
fn paths(paths: &[u8], secret: &Secret) -> Vec<u8> {
    let parts = paths.split(|byte| *byte == b':').map(|path| secret.names.path(path));
    parts.collect::<Vec<_>>().join(&b':')
}

/// Replaces the words of a value of the kernel's own. Numbers, and words of up to 3 letters, stay.
fn values_of(value: &[u8], secret: &Secret) -> Vec<u8> {
    let replaced = value.split_inclusive(u8::is_ascii_whitespace).map(|word| {
        let stem = word.trim_ascii_end();
        let letters = stem.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
        let is_number = stem.iter().any(u8::is_ascii_digit) && letters == 0;
        if is_number || letters == stem.len() && letters <= 3 {
            word.to_vec()
        } else {
            device(word, secret)
        }
    });
    replaced.collect::<Vec<_>>().concat()
}

/// Replaces a word, an address or a number of an option. Numbers stay, with a unit too.
fn words(value: &[u8], secret: &Secret) -> Vec<u8> {
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits > 0 && digits + 1 >= value.len() {
        return value.to_vec();
    }
    let text = std::str::from_utf8(value).unwrap_or("");
    match text.parse::<IpAddr>() {
        Ok(_) => word(value, secret),
        Err(_) => secret.names.word(value),
    }
}

/// Replaces the address of a unix socket: a path with a NUL at its end, or a name behind a NUL.
fn unix(address: &[u8], secret: &Secret) -> Vec<u8> {
    let parts = address.split(|byte| *byte == 0).map(|part| secret.names.path(part));
    parts.collect::<Vec<_>>().join(&0)
}

/// Bytes of a `siginfo_t` that say the signal, its reason and its sender.
const SENDER: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind;
    use crate::proto::UtsnsEntry;
    use crate::writer::ImageWriter;

    #[test]
    fn options_of_mounts_keep_known_words_and_numbers_alone() {
        let secret = Secret::default();
        let said = |text: &str| String::from_utf8(options(text.as_bytes(), &secret)).unwrap();
        for private in [
            "password=ab,cdacmecorp",
            "context=\"acmecorp_u:object_r:acmecorp_t:s0:c1,c47110815\"",
            "lowerdir=/a\\,acmecorp:/b,acmecorp",
            "acmecorp",
        ] {
            let new = said(private);
            assert!(!new.contains("acmecorp") && !new.contains("47110815"), "{private}: {new}");
            assert_eq!(new.len(), private.len());
        }
        for kept in [
            "rw,nosuid,nodev,noexec,relatime",
            "ro,noatime,nodiratime,lazytime,sync,dirsync,strictatime,size=64k,nr_inodes=100,mode=755",
            "newinstance,ptmxmode=0666,mode=620,gid=5",
            "rw,nsdelegate,memory_recursiveprot,memory_hugetlb_accounting,favordynmods",
            "seclabel,inode64,nr_blocks=7,volatile,nofail,private,rbind",
            "userxattr,max_read=131072,discard,nobarrier,stripe=16,user_xattr,acl,rsize=4096",
            "cpuset,cpu,cpuacct,blkio,memory,devices,freezer,net_cls,perf_event,net_prio,xattr",
            "",
        ] {
            assert_eq!(said(kept), kept);
        }
    }

    #[test]
    fn values_keep_numbers_and_words_of_three_letters() {
        let secret = Secret::default();
        let said = |text: &str| String::from_utf8(values_of(text.as_bytes(), &secret)).unwrap();
        for kept in ["c 1:3 rwm\n", "b 8:0 r\na 1:1 rw\n", "max 100000\n", "max", "-1\n", "0 0\n"] {
            assert_eq!(said(kept), kept);
        }
        let new = said("acme0 5\nacme 7\n");
        assert!(!new.contains("acme") && new.contains(" 5\n") && new.ends_with(" 7\n"), "{new}");
    }

    #[test]
    fn fields_of_a_newer_criu_go_and_doubled_ones_are_replaced() {
        // The name of the host twice, its domain, and field 99 with a text.
        let message = b"\x0a\x08acmecorp\x0a\x08acmecorp\x12\x09acmecorp2\x9a\x06\x08acmecorp";
        let mut writer = ImageWriter::new(kind::UTSNS, Vec::new()).unwrap();
        writer.raw(message, &Payload::None).unwrap();
        let image = writer.finish().unwrap();
        let secret = Secret::default();
        let new = replaced("utsns-1.img", &image, kind::UTSNS, &secret).unwrap();
        assert!(!new.windows(8).any(|part| part == b"acmecorp"), "{new:?}");
        let entry: UtsnsEntry =
            Image::parse("utsns-1.img", &new, kind::UTSNS).unwrap().single().unwrap();
        assert_eq!(entry.nodename, secret.names.word(b"acmecorp"));
        assert_eq!(entry.domainname, secret.names.word(b"acmecorp2"));
    }
}
