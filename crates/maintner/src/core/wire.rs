//! Protobuf, read in place: no message is built and no text is copied.

/// The bytes are no mutation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a mutation: {0}")]
pub struct DecodeError(pub(super) &'static str);

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Four or eight bytes: no field of ours is of this kind.
    Fixed,
}

impl<'a> Value<'a> {
    pub(super) fn number(self) -> Result<i64, DecodeError> {
        match self {
            Value::Number(number) => Ok(number as i64),
            _ => Err(DecodeError("a number is of another kind")),
        }
    }

    pub(super) fn bool(self) -> Result<bool, DecodeError> {
        Ok(self.number()? != 0)
    }

    pub(super) fn bytes(self) -> Result<&'a [u8], DecodeError> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(DecodeError("a text or message is of another kind")),
        }
    }
}

/// The fields of a message, in the order they were written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    /// The next field and its number, or nothing at the end.
    #[expect(
        clippy::inline_always,
        reason = "what it answers would go through memory, several times for each commit"
    )]
    #[inline(always)]
    pub(super) fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, DecodeError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            2 => {
                let len = self.varint()?;
                Value::Bytes(self.take(len)?)
            }
            1 => self.take(8).map(|_| Value::Fixed)?,
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err(DecodeError("a field of no kind")),
        };
        if key >> 3 == 0 || key >> 3 > 0x1fff_ffff {
            return Err(DecodeError("a field without a number"));
        }
        Ok(Some((key >> 3, value)))
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64, DecodeError> {
        match self.0 {
            [first, rest @ ..] if *first < 0x80 => {
                self.0 = rest;
                Ok(u64::from(*first))
            }
            [first, second, rest @ ..] if *second < 0x80 => {
                self.0 = rest;
                Ok(u64::from(*first & 0x7f) | u64::from(*second) << 7)
            }
            _ => self.long_varint(),
        }
    }

    #[inline(never)]
    fn long_varint(&mut self) -> Result<u64, DecodeError> {
        let mut number = 0;
        for (at, byte) in self.0.iter().take(10).enumerate() {
            if at == 9 && *byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.0 = &self.0[at + 1..];
                return Ok(number);
            }
        }
        Err(DecodeError("a number that does not end"))
    }

    #[inline]
    fn take(&mut self, len: u64) -> Result<&'a [u8], DecodeError> {
        let split = usize::try_from(len).ok().and_then(|len| self.0.split_at_checked(len));
        let (taken, rest) = split.ok_or(DecodeError("a field reaches beyond the end"))?;
        self.0 = rest;
        Ok(taken)
    }
}

/// The last field with this number, if it holds bytes.
pub(super) fn find_bytes(message: &[u8], number: u64) -> Option<&[u8]> {
    let mut fields = Fields(message);
    let mut found = None;
    while let Ok(Some((at, value))) = fields.next() {
        if at == number {
            found = value.bytes().ok();
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_every_kind_are_told_apart_and_a_cut_is_noticed() {
        let whole = [0x08, 0x96, 0x01, 0x12, 2, b'h', b'i', 0x19, 0, 0, 0, 0, 0, 0, 0, 0, 0x25, 0, 0, 0, 0];
        let mut fields = Fields(&whole);
        assert_eq!(fields.next(), Ok(Some((1, Value::Number(150)))));
        assert_eq!(fields.next(), Ok(Some((2, Value::Bytes(b"hi")))));
        assert_eq!(fields.next(), Ok(Some((3, Value::Fixed))));
        assert_eq!(fields.next(), Ok(Some((4, Value::Fixed))));
        assert_eq!(fields.next(), Ok(None));
        for cut in [1, 2, 4, 5, 6, 8, 17] {
            let mut fields = Fields(&whole[..cut]);
            let end = std::iter::from_fn(|| fields.next().transpose()).find(Result::is_err);
            assert!(end.is_some(), "{cut}");
        }
    }

    #[test]
    fn negative_numbers_take_ten_bytes_and_never_eleven() {
        let minus_one = [0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
        let (_, value) = Fields(&minus_one).next().unwrap().unwrap();
        assert_eq!(value.number(), Ok(-1));
        assert!(Fields(&[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2]).next().is_err());
    }
}
