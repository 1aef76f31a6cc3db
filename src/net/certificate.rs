//! What a report says of a server's certificate. It was verified before; nothing depends on what is read here.

use std::time::{Duration, SystemTime};

use crate::config::value_of;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xA0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// id-at-commonName and id-at-organizationName (RFC 5280, A.1).
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0A];

const DAY: u64 = 24 * 60 * 60;

/// The issuer's name, and the end of the validity.
#[derive(Default)]
pub(crate) struct Certificate {
    /// Empty if it has none that can be shown.
    pub(crate) issuer: String,
    pub(crate) not_after: Option<SystemTime>,
}

impl Certificate {
    /// Reads a certificate in DER (RFC 5280, 4.1).
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let (certificate, _) = value_of(SEQUENCE, der)?;
        let (body, _) = value_of(SEQUENCE, certificate)?;
        let body = value_of(VERSION, body).map_or(body, |(_, rest)| rest);
        let (_, body) = value_of(INTEGER, body)?; // the serial number
        let (_, body) = value_of(SEQUENCE, body)?; // the algorithm
        let (issuer, body) = value_of(SEQUENCE, body)?;
        let (validity, _) = value_of(SEQUENCE, body)?;
        let name = attribute(issuer, COMMON_NAME).or_else(|| attribute(issuer, ORGANIZATION));
        let not_after = time(validity).and_then(|(_, rest)| time(rest));
        Some(Self { issuer: name.unwrap_or_default(), not_after: not_after.map(|(time, _)| time) })
    }

    /// Whole days from `now` to the end of the validity.
    pub(crate) fn days_left(&self, now: SystemTime) -> Option<u64> {
        Some(self.not_after?.duration_since(now).unwrap_or_default().as_secs() / DAY)
    }
}

/// The first attribute of this type in a Name.
fn attribute(mut name: &[u8], kind: &[u8]) -> Option<String> {
    while let Some((set, rest)) = value_of(SET, name) {
        name = rest;
        let (pair, _) = value_of(SEQUENCE, set)?;
        let (found, value) = value_of(OBJECT_IDENTIFIER, pair)?;
        if found == kind {
            let (content, _) = value_of(*value.first()?, value)?;
            return Some(String::from_utf8_lossy(content).into_owned());
        }
    }
    None
}

/// The time at the start of `input`, and the rest.
fn time(input: &[u8]) -> Option<(SystemTime, &[u8])> {
    if let Some((text, rest)) = value_of(UTC_TIME, input) {
        let century = if number(text, 0..2)? < 50 { 2000 } else { 1900 };
        return Some((moment(century + number(text, 0..2)?, text.get(2..)?)?, rest));
    }
    let (text, rest) = value_of(GENERALIZED_TIME, input)?;
    Some((moment(number(text, 0..4)?, text.get(4..)?)?, rest))
}

/// `rest`: MMDDHHMMSSZ.
fn moment(year: u64, rest: &[u8]) -> Option<SystemTime> {
    let part = |index: usize| number(rest, 2 * index..2 * index + 2);
    let seconds = (part(2)? * 60 + part(3)?) * 60 + part(4)?;
    let days = days_since_1970(year, part(0)?, part(1)?)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(days * DAY + seconds))
}

/// In the Gregorian calendar, with years that begin in March, so that a leap day is the last.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month < 3 { year.checked_sub(1)? } else { year };
    let month = (month + 9) % 12;
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    days.checked_sub(719_469)
}

fn number(text: &[u8], range: std::ops::Range<usize>) -> Option<u64> {
    std::str::from_utf8(text.get(range)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, Issuer, KeyPair, date_time_ymd};

    #[test]
    fn the_issuer_and_the_end_of_a_certificate() {
        for (year, month, day, days) in [
            (1999, 12, 31, 10_956),
            (2024, 2, 29, 19_782),
            (2049, 3, 1, 28_914),
            (2050, 1, 1, 29_220),
        ] {
            let mut ca = CertificateParams::new(vec![]).unwrap();
            ca.distinguished_name.push(DnType::CommonName, "A CA \u{e9}");
            let key = KeyPair::generate().unwrap();
            let mut leaf = CertificateParams::new(vec!["localhost".into()]).unwrap();
            leaf.not_before = date_time_ymd(1971, 1, 1);
            leaf.not_after = date_time_ymd(year, month, day);
            let issuer = Issuer::new(ca, &key);
            let der = leaf.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
            let read = Certificate::read(der.der()).unwrap();
            assert_eq!(read.issuer, "A CA \u{e9}");
            assert_eq!(read.days_left(SystemTime::UNIX_EPOCH), Some(days));
            assert_eq!(read.days_left(read.not_after.unwrap() + Duration::from_secs(1)), Some(0));
        }
    }

    #[test]
    fn cut_or_changed_bytes_do_no_harm() {
        let key = KeyPair::generate().unwrap();
        let der = CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap().der().to_vec();
        for end in 0..der.len() {
            Certificate::read(&der[..end]);
        }
        for at in 0..der.len() {
            for flip in [0x01, 0x80, 0xFF] {
                let mut other = der.clone();
                other[at] ^= flip;
                Certificate::read(&other);
            }
        }
    }
}
