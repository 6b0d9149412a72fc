//! Readers: from any position to the end, and then on as the log grows, without a gap or a repeat.
//!
//! The end of the log is in memory, shared; what lies before is read from the segments. A reader holds only its
//! position, and a buffer while it reads files, so that thousands may wait.

use std::sync::Arc;

use tokio::{sync::watch, task};

use super::{Batch, BatchBuilder, Extent, Filter, ReadError, record::RecordReader, state::Shared};

/// So much of a file is looked at before a reader hears again, however little of it passes its filter.
const SCAN_BYTES: u64 = 4 * 1024 * 1024;

/// Reads the log in order.
pub struct Reader {
    shared: Arc<Shared>,
    durable: watch::Receiver<Extent>,
    position: u64,
    filter: Filter,
    cursor: Option<Box<Cursor>>,
}

/// A place in a file.
struct Cursor {
    records: RecordReader,
    /// The number of the next record.
    position: u64,
    /// Up to where this cursor can read.
    end: u64,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, position: u64, filter: Filter) -> Self {
        let durable = shared.durable.clone();
        Self { shared, durable, position, filter, cursor: None }
    }

    /// How many mutations come before the next.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Whether everything durable was read.
    pub fn is_caught_up(&self) -> bool {
        self.durable.borrow().position <= self.position
    }

    /// What there is to deliver when nothing came.
    pub fn nothing(&self) -> Batch {
        Batch::empty(self.position)
    }

    /// The next mutations, as many as travel together; waits for them when there are none. The batch is empty when there
    /// were some, but none that passes the filter. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Result<Batch, ReadError> {
        while self.durable.borrow_and_update().position <= self.position {
            self.durable.changed().await.map_err(|_| ReadError::Closed)?;
        }
        let batch = match self.shared.recent(self.position, &self.filter) {
            Some(batch) => {
                self.cursor = None;
                batch
            }
            None => self.next_from_files().await?,
        };
        self.position = batch.range().end;
        Ok(batch)
    }

    async fn next_from_files(&mut self) -> Result<Batch, ReadError> {
        let (shared, position, cursor) = (Arc::clone(&self.shared), self.position, self.cursor.take());
        let filter = self.filter.clone();
        let read = move || -> Result<_, ReadError> {
            let mut cursor = match cursor.filter(|cursor| cursor.position == position) {
                Some(cursor) if cursor.position < cursor.end => cursor,
                _ => Box::new(Cursor::at(&shared, position)?),
            };
            let batch = cursor.read_batch(&filter)?;
            Ok((batch, cursor))
        };
        let (batch, cursor) = match task::spawn_blocking(read).await {
            Ok(read) => read?,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => return Err(ReadError::Closed), // the runtime is going down
        };
        self.cursor = Some(cursor);
        Ok(batch)
    }
}

impl Cursor {
    fn at(shared: &Shared, position: u64) -> Result<Self, ReadError> {
        let place = shared.place(position)?;
        let records = RecordReader::new(place.file, &place.path, place.offset, place.limit);
        let mut cursor = Self { records, position: place.number, end: place.end };
        while cursor.position < position {
            cursor.read()?;
        }
        Ok(cursor)
    }

    /// The next payload, which must be there.
    fn read(&mut self) -> Result<&[u8], ReadError> {
        self.expect_more()?;
        self.position += 1;
        Ok(self.records.read()?.unwrap_or_default())
    }

    /// The length of the next payload, which must be there.
    fn expect_more(&mut self) -> Result<usize, ReadError> {
        match self.records.peek()? {
            Some(len) => Ok(len),
            None => {
                Err(ReadError::Short { path: self.records.path().into(), missing: self.end - self.position })
            }
        }
    }

    fn read_batch(&mut self, filter: &Filter) -> Result<Batch, ReadError> {
        let mut batch = BatchBuilder::new(self.position);
        let stop = self.records.offset() + SCAN_BYTES;
        while self.position < self.end
            && self.records.offset() < stop
            && !batch.is_full_for(self.expect_more()?)
        {
            let mutation = self.read()?;
            if filter.passes(mutation) {
                batch.push(mutation);
            } else {
                batch.skip();
            }
        }
        self.records.release();
        Ok(batch.build())
    }
}

/// See [`super::Log::replay`].
pub(super) fn replay(shared: &Shared, from: u64, mut each: impl FnMut(u64, &[u8])) -> Result<(), ReadError> {
    let end = shared.durable.borrow().position;
    let mut position = from;
    while position < end {
        let mut cursor = Cursor::at(shared, position)?;
        while position < cursor.end {
            each(position, cursor.read()?);
            position += 1;
        }
    }
    Ok(())
}
