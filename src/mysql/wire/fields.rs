//! The fields that the protocol's packets are made of, taken one by one; `None` where the packet is too short.

pub(super) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// `len` bytes, at most eight, as a little-endian integer.
    pub fn int(&mut self, len: usize) -> Option<u64> {
        Some(self.bytes(len)?.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    /// Up to a NUL, which is taken too; or up to the end.
    pub fn text(&mut self) -> &'a [u8] {
        let (text, rest) = match self.0.iter().position(|&byte| byte == 0) {
            Some(end) => (&self.0[..end], &self.0[end + 1..]),
            None => (self.0, &self.0[self.0.len()..]),
        };
        self.0 = rest;
        text
    }

    pub fn length_encoded(&mut self) -> Option<u64> {
        match self.int(1)? {
            0xfc => self.int(2),
            0xfd => self.int(3),
            0xfe => self.int(8),
            0xfb | 0xff => None,
            small => Some(small),
        }
    }

    /// A length and that many bytes.
    pub fn length_encoded_bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.length_encoded()?).ok()?;
        self.bytes(len)
    }

    /// The same, or 0xfb for NULL.
    pub fn value(&mut self) -> Option<Option<&'a [u8]>> {
        if self.0.first() == Some(&0xfb) {
            self.bytes(1)?;
            return Some(None);
        }
        self.length_encoded_bytes().map(Some)
    }
}

/// Appends a length and the bytes.
pub(super) fn put_length_encoded_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    match bytes.len() {
        len @ 0..=0xfa => out.push(len as u8),
        len @ 0xfb..=0xffff => {
            out.push(0xfc);
            out.extend_from_slice(&(len as u16).to_le_bytes());
        }
        len => {
            out.push(0xfe);
            out.extend_from_slice(&(len as u64).to_le_bytes());
        }
    }
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn length_encoded_bytes_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..70_000)) {
            let mut out = Vec::new();
            put_length_encoded_bytes(&mut out, &bytes);
            let mut fields = Fields(&out);
            prop_assert_eq!(fields.length_encoded_bytes(), Some(&bytes[..]));
            prop_assert!(fields.0.is_empty());
        }
    }

    #[test]
    fn a_packet_that_ends_early_is_noticed() {
        assert_eq!(Fields(&[0xfd, 1, 2]).length_encoded(), None);
        assert_eq!(Fields(&[3, 1, 2]).length_encoded_bytes(), None);
        assert_eq!(Fields(&[0xfb]).value(), Some(None));
        assert_eq!(Fields(&[]).value(), None);
    }
}
