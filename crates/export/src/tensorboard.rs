//! Event files of TensorBoard: scalars over the steps of a run, written while it trains.
//!
//! A file is a row of records, each `length (u64) · check of the length (u32) · data · check of the data (u32)`, all little
//! endian, where a check is a masked CRC-32C; the data are `Event` messages of protobuf. The first record names the version
//! of the format. Field numbers are those of TensorBoard's published `event.proto` and `summary.proto`.
//!
//! A run that is resumed goes on in a new file, whose second record is the start of a session at some step: TensorBoard then
//! forgets what earlier files say of that step and of later ones.
//!
//! ```
//! use fixnet_export::tensorboard::EventFile;
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! let mut events = EventFile::create(folder, None)?;
//! events.scalars(50, &[("loss/batch", 0.7), ("lr", 0.1)])?;
//! // Resumed from a checkpoint after step 40: the step 50 above is void.
//! let mut events = EventFile::create(folder, Some(41))?;
//! events.scalars(50, &[("loss/batch", 0.7), ("lr", 0.1)])?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::{Error, Result};
use crc::{CRC_32_ISCSI, Crc, Table};
use fixnet_files as files;
use prost::Message;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A record of an event file: when, after how many steps, and one of the rest.
#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, optional, tag = "1")]
    wall_time: Option<f64>,
    #[prost(int64, optional, tag = "2")]
    step: Option<i64>,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session_log: Option<SessionLog>,
}

/// Values by their tags.
#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

/// A value.
#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, optional, tag = "1")]
    tag: Option<String>,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// The start or end of a run.
#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, optional, tag = "1")]
    status: Option<i32>,
}

/// The status of a session that starts.
const START: i32 = 1;

/// What the name of every event file begins with.
const PREFIX: &str = "events.out.tfevents.";

static CRC: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// An event file that only grows.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Begins a file in `folder`, which is made if it is not there. Its name sorts behind those of fixnet's event files that
    /// are there: that is the order in which they are read. With `restart`, what they say of that step and later ones is void.
    ///
    /// # Errors
    /// The folder or the file cannot be written.
    pub fn create(folder: &Path, restart: Option<u64>) -> Result<Self> {
        let at = |path: &Path| {
            let path = path.to_path_buf();
            move |source| Error::Write { path, source }
        };
        files::create_folder(folder).map_err(at(folder))?;
        let earlier = Self::list(folder).map_err(at(folder))?;
        // Not before the last one, whatever the clock says.
        let last = earlier.last().and_then(|path| seconds_of(path)).unwrap_or(0);
        let seconds = (now() as u64).max(last);
        let path = folder.join(format!("{PREFIX}{seconds:010}.fixnet.{:06}", earlier.len()));
        let file = files::create_log(&path).map_err(at(&path))?;
        let mut events = Self { path, file };
        events.write(&Event { file_version: Some("brain.Event:2".into()), ..event(0) })?;
        if let Some(step) = restart {
            let start = SessionLog { status: Some(START) };
            events.write(&Event { session_log: Some(start), ..event(step) })?;
        }
        Ok(events)
    }

    /// The event files of a folder in the order in which they are read; none if there is no such folder.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        paths.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX)));
        paths.sort();
        Ok(paths)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds values by their tags, as they are after `step` steps. A tag such as `loss/test` is the chart `test` in the group
    /// `loss`. The time is that of this call.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn scalars<S: AsRef<str>>(&mut self, step: u64, values: &[(S, f64)]) -> Result<()> {
        let value =
            |(tag, value): &(S, f64)| Scalar { tag: Some(tag.as_ref().into()), simple_value: Some(*value as f32) };
        let summary = Summary { value: values.iter().map(value).collect() };
        self.write(&Event { summary: Some(summary), ..event(step) })
    }

    /// One call a record, so that a killed process tears none in two, as far as the system goes; readers stop at one that is
    /// torn.
    fn write(&mut self, event: &Event) -> Result<()> {
        let path = || self.path.clone();
        self.file.write_all(&record(&event.encode_to_vec())).map_err(|source| Error::Write { path: path(), source })
    }
}

/// The seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// The seconds in the name of an event file.
fn seconds_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix(PREFIX)?.split('.').next()?.parse().ok()
}

/// An event of this moment without content.
fn event(step: u64) -> Event {
    Event { wall_time: Some(now()), step: Some(step as i64), ..Event::default() }
}

/// A CRC-32C, turned and moved, so that data which hold checks have checks that look different.
fn masked_crc(data: &[u8]) -> u32 {
    CRC.checksum(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Data in their frame.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked_crc(&length).to_le_bytes(), data, &masked_crc(data).to_le_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits the first bytes off.
    fn take<'a>(data: &mut &'a [u8], count: usize) -> &'a [u8] {
        let (head, tail) = data.split_at(count);
        *data = tail;
        head
    }

    /// Worked by hand from the published field numbers: key = number · 8 + type of the encoding.
    #[test]
    fn events_have_the_published_encoding() {
        let summary = Summary { value: vec![Scalar { tag: Some("l".into()), simple_value: Some(-2.0) }] };
        let event = Event { wall_time: Some(1.5), step: Some(0), summary: Some(summary), ..Event::default() };
        let scalar = b"\x0a\x01l\x15\x00\x00\x00\xc0";
        let expected = [&b"\x09\x00\x00\x00\x00\x00\x00\xf8\x3f\x10\x00\x2a\x0a\x0a\x08"[..], scalar].concat();
        assert_eq!(event.encode_to_vec(), expected);
        let start = Event { session_log: Some(SessionLog { status: Some(START) }), ..Event::default() };
        assert_eq!(start.encode_to_vec(), b"\x3a\x02\x08\x01");
        let version = Event { file_version: Some("v".into()), ..Event::default() };
        assert_eq!(version.encode_to_vec(), b"\x1a\x01v");
    }

    /// CRC-32C by its definition: a bit at a time, the polynomial 0x1EDC6F41 from the low end.
    fn crc_bit_by_bit(data: &[u8]) -> u32 {
        !data.iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
        })
    }

    #[test]
    fn checks_are_those_of_the_standard() {
        // The vectors of RFC 3720, B.4, and the usual check value.
        let ascending: Vec<u8> = (0..32).collect();
        for (data, expected) in [
            (&[0; 32][..], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&ascending, 0x46dd_794e),
            (b"123456789", 0xe306_9283),
            (b"", 0),
        ] {
            assert_eq!((CRC.checksum(data), crc_bit_by_bit(data)), (expected, expected));
        }
        // 0xe3069283 turned right by 15 bits is 0x2507c60d; plus the constant, modulo 2^32.
        assert_eq!(masked_crc(b"123456789"), 0xc78a_b0e5);
    }

    /// An event of a file: step, version, session status, scalars.
    type Found = (i64, String, Option<i32>, Vec<(String, f32)>);

    fn read(path: &Path) -> Vec<Found> {
        let bytes = fs::read(path).unwrap();
        let (mut data, mut events) = (&bytes[..], Vec::new());
        let checked = |data: &mut &[u8], of: &[u8]| {
            let unmasked = u32::from_le_bytes(take(data, 4).try_into().unwrap()).wrapping_sub(0xa282_ead8);
            assert_eq!(unmasked.rotate_left(15), crc_bit_by_bit(of));
        };
        while !data.is_empty() {
            let length = take(&mut data, 8);
            checked(&mut data, length);
            let body = take(&mut data, u64::from_le_bytes(length.try_into().unwrap()) as usize);
            checked(&mut data, body);
            let event = Event::decode(body).unwrap();
            assert!(event.wall_time.unwrap() > 1e9);
            let scalars = event.summary.unwrap_or_default().value;
            events.push((
                event.step.unwrap(),
                event.file_version.unwrap_or_default(),
                event.session_log.and_then(|log| log.status),
                scalars.into_iter().map(|s| (s.tag.unwrap(), s.simple_value.unwrap())).collect(),
            ));
        }
        events
    }

    #[test]
    fn a_written_file_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("tensorboard");
        assert!(EventFile::list(&inside).unwrap().is_empty());
        let mut first = EventFile::create(&inside, None).unwrap();
        first.scalars(50, &[("loss/batch", 0.7), ("gamma/conv2", 1.0)]).unwrap();
        first.scalars(300, &[("lr", f64::NAN)]).unwrap();
        let mut second = EventFile::create(&inside, Some(51)).unwrap();
        second.scalars(100, &[("loss/batch".to_string(), 0.5)]).unwrap();
        assert_eq!(EventFile::list(&inside).unwrap(), [first.path(), second.path()]);
        let (a, b) = (read(first.path()), read(second.path()));
        let version = (0, "brain.Event:2".to_string(), None, vec![]);
        let scalars = |list: &[(&str, f32)]| list.iter().map(|&(tag, v)| (tag.to_string(), v)).collect::<Vec<_>>();
        let losses = (50, String::new(), None, scalars(&[("loss/batch", 0.7), ("gamma/conv2", 1.0)]));
        assert_eq!(a[..2], [version.clone(), losses]);
        assert!(a.len() == 3 && a[2].0 == 300 && a[2].3[0].1.is_nan());
        let start = (51, String::new(), Some(1), vec![]);
        assert_eq!(b, [version, start, (100, String::new(), None, scalars(&[("loss/batch", 0.5)]))]);
    }

    #[test]
    fn later_files_sort_behind_whatever_the_clock_says() {
        let folder = tempfile::tempdir().unwrap();
        let future = folder.path().join(format!("{PREFIX}9999999999.elsewhere"));
        fs::write(&future, b"").unwrap();
        let next = EventFile::create(folder.path(), None).unwrap();
        assert_eq!(EventFile::list(folder.path()).unwrap(), [&future, next.path()]);
        let path = folder.path().join("file");
        fs::write(&path, b"").unwrap();
        let e = EventFile::create(&path, None).unwrap_err().to_string();
        assert!(e.contains(&path.display().to_string()), "{e}");
    }
}
