//! Messages that pass through with all their bytes.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

use prost::bytes::{Buf, BufMut};
use prost::encoding::{DecodeContext, WireType, encode_key, skip_field};
use prost::{DecodeError, Message};

/// A message of type `T` that somebody else has made, as its bytes.
///
/// Decoding into `T` drops the fields that `T` does not have: those of Windows, and those of
/// versions to come. A `Kept` has them still. It is a message itself, which takes the place of a
/// `T` in other messages, and it encodes to the bytes that were decoded.
pub struct Kept<T> {
    bytes: Vec<u8>,
    kind: PhantomData<fn() -> T>,
}

impl<T: Message + Default> Kept<T> {
    /// Makes the bytes of a message.
    pub fn new(message: &T) -> Self {
        Self { bytes: message.encode_to_vec(), kind: PhantomData }
    }

    /// Takes the bytes of a message as they are.
    ///
    /// # Errors
    /// If the bytes are no message of type `T`.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        T::decode(bytes.as_slice())?;
        Ok(Self { bytes, kind: PhantomData })
    }

    /// Decodes the fields that `T` has.
    ///
    /// # Errors
    /// If the bytes are no message of type `T`: a field of another type, or text that is not UTF-8.
    pub fn read(&self) -> Result<T, DecodeError> {
        T::decode(self.bytes.as_slice())
    }

    /// Lays another message over this one.
    ///
    /// A field of `other` that is not empty takes the place of the field here. Messages in fields
    /// are laid over each other in the same way, lists are joined, and maps get more keys.
    pub fn overlay(&mut self, other: &T) {
        self.bytes.reserve(other.encoded_len());
        other.encode_raw(&mut self.bytes);
    }
}

impl<T> Kept<T> {
    /// The bytes of the message.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// True if the message has no fields.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl<T> Message for Kept<T> {
    fn encode_raw(&self, to: &mut impl BufMut) {
        to.put_slice(&self.bytes);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        from: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        encode_key(tag, wire_type, &mut self.bytes);
        let mut copied = Copied { from, to: &mut self.bytes };
        skip_field(wire_type, tag, &mut copied, context)
    }

    fn encoded_len(&self) -> usize {
        self.bytes.len()
    }

    fn clear(&mut self) {
        self.bytes.clear();
    }
}

/// A buffer that copies the bytes that are taken out.
struct Copied<'a, B> {
    from: &'a mut B,
    to: &'a mut Vec<u8>,
}

impl<B: Buf> Buf for Copied<'_, B> {
    fn remaining(&self) -> usize {
        self.from.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.from.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.to.put(self.from.take(count));
    }
}

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self { bytes: self.bytes.clone(), kind: PhantomData }
    }
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { bytes: Vec::new(), kind: PhantomData }
    }
}

impl<T> PartialEq for Kept<T> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl<T> Eq for Kept<T> {}

impl<T> Hash for Kept<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes.hash(state);
    }
}

/// Configurations hold environment variables, often secret ones, so only the size is shown.
impl<T> fmt::Debug for Kept<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kept({} bytes)", self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{
        ContainerConfig, ImageSpec, KeyValue, PodSandboxConfig, PodSandboxMetadata,
        RestorePodRequest, RunPodSandboxRequest,
    };

    /// A configuration with fields of each wire type that `PodSandboxConfig` does not have.
    fn strange() -> Vec<u8> {
        let metadata = PodSandboxMetadata { name: "web".into(), ..PodSandboxMetadata::default() };
        let config = PodSandboxConfig { metadata: Some(metadata), ..PodSandboxConfig::default() };
        let mut bytes = config.encode_to_vec();
        // Field 9 is that of Windows. The varint of field 2000 is longer than it needs to be.
        let more: [&[u8]; 6] = [
            b"\x4a\x03abc",
            b"\x80\x7d\x81\x80\x00",
            b"\x85\x7d\x01\x02\x03\x04",
            b"\x81\x7d\x01\x02\x03\x04\x05\x06\x07\x08",
            b"\x83\x7d\x08\x01\x84\x7d",
            b"\x12\x03pod",
        ];
        bytes.extend(more.concat());
        bytes
    }

    fn request(config: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x0a, u8::try_from(config.len()).expect("a short message")];
        bytes.extend(config);
        bytes.extend(b"\x12\x04runc");
        bytes
    }

    #[test]
    fn unknown_fields_pass_through_with_their_bytes() {
        let bytes = request(&strange());
        let request = RunPodSandboxRequest::decode(bytes.as_slice()).expect("a request");
        assert_eq!(request.encode_to_vec(), bytes);
        let kept = request.config.expect("a configuration");
        assert_eq!(kept.bytes(), strange());
        let config = kept.read().expect("a configuration");
        assert_eq!(config.hostname, "pod");
        assert_eq!(config.metadata.expect("metadata").name, "web");
        // A copy in another request, as a restore makes it.
        let restore = RestorePodRequest { config: Some(kept), ..RestorePodRequest::default() };
        let again = RestorePodRequest::decode(restore.encode_to_vec().as_slice());
        assert_eq!(again.expect("a request").config.expect("a configuration").bytes(), strange());
    }

    #[test]
    fn a_chunked_buffer_is_copied_whole() {
        let bytes = request(&strange());
        for cut in 0..bytes.len() {
            let (start, end) = bytes.split_at(cut);
            let request = RunPodSandboxRequest::decode(start.chain(end)).expect("a request");
            assert_eq!(request.encode_to_vec(), bytes, "{cut}");
        }
    }

    #[test]
    fn an_overlay_replaces_one_field_and_keeps_the_others() {
        let config = ContainerConfig {
            image: Some(ImageSpec {
                image: "base".into(),
                user_specified_image: "base:1".into(),
                ..ImageSpec::default()
            }),
            envs: vec![KeyValue { key: "A".into(), value: b"1".to_vec() }],
            ..ContainerConfig::default()
        };
        let mut bytes = config.encode_to_vec();
        bytes.extend(b"\x90\x01\x0f");
        let mut kept = Kept::<ContainerConfig>::from_bytes(bytes.clone()).expect("a message");
        let image = ImageSpec { image: "/c.tar".into(), ..ImageSpec::default() };
        kept.overlay(&ContainerConfig { image: Some(image), ..ContainerConfig::default() });
        let read = kept.read().expect("a message");
        let image = read.image.expect("an image");
        assert_eq!(
            (image.image.as_str(), image.user_specified_image.as_str()),
            ("/c.tar", "base:1")
        );
        assert_eq!(read.envs, config.envs);
        // The stop signal, which is no field of our message.
        assert!(kept.bytes().starts_with(&bytes));
    }

    #[test]
    fn hostile_bytes_are_refused() {
        let deep = b"\x83\x7d".repeat(200_000);
        let hostile: [&[u8]; 6] = [
            // A length beyond the end.
            b"\x0a\xff\xff\xff\xff\x0f",
            // A length of almost 2^64.
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            // An end of a group that was not begun, and the number 0.
            b"\x0a\x02\x84\x7d",
            b"\x0a\x02\x00\x01",
            // A varint of eleven bytes.
            b"\x0a\x0c\x80\x7d\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            &deep,
        ];
        for bytes in hostile {
            assert!(RunPodSandboxRequest::decode(bytes).is_err(), "{:?}", &bytes[..2]);
            let inner = Kept::<PodSandboxConfig>::from_bytes(bytes.to_vec());
            assert!(inner.is_err(), "{:?}", &bytes[..2]);
        }
        // Groups in groups, in the configuration.
        assert!(RunPodSandboxRequest::decode(request(&b"\x83\x7d".repeat(40)).as_slice()).is_err());
    }

    #[test]
    fn text_that_is_not_utf8_passes_through_and_is_not_read() {
        let bytes = request(b"\x12\x02\xff\xfe");
        let request = RunPodSandboxRequest::decode(bytes.as_slice()).expect("a request");
        assert_eq!(request.encode_to_vec(), bytes);
        assert!(request.config.expect("a configuration").read().is_err());
    }

    #[test]
    fn environment_variables_are_not_shown() {
        let secret = KeyValue { key: "KEY".into(), value: b"hunter2".to_vec() };
        let config = ContainerConfig { envs: vec![secret], ..ContainerConfig::default() };
        assert_eq!(format!("{:?}", Kept::new(&config)), "Kept(16 bytes)");
    }
}
