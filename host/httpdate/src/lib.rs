//! The date in an HTTP header (RFC 9110, section 5.6.7: IMF-fixdate), for any time that the system's clock may show.
//!
//! Only what hyper uses of the crate of this name is here.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970 of the last second that four digits of a year can show: 9999-12-31 23:59:59.
const LAST_SECOND: u64 = 253_402_300_799;

const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A second between 1970 and 9999. A time outside of that is taken for the nearest in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HttpDate(u64);

impl From<SystemTime> for HttpDate {
    fn from(time: SystemTime) -> HttpDate {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        HttpDate(since.as_secs().min(LAST_SECOND))
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`: 29 characters.
impl fmt::Display for HttpDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0 / 86_400, self.0 % 86_400);
        // 1970-01-01 was a Thursday.
        let weekday = WEEKDAYS[(days % 7) as usize];
        let (year, month, day) = date_of(days);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        write!(f, "{weekday}, {day:02} {} {year:04} {hour:02}:{minute:02}:{second:02} GMT", MONTHS[month])
    }
}

/// Year, month from 0 and day from 1 of a day since 1970.
fn date_of(mut days: u64) -> (u64, usize, u64) {
    let mut year = 1970;
    // A period of 400 years has 146,097 days, whichever year it begins with.
    year += days / 146_097 * 400;
    days %= 146_097;
    while days >= days_of(year) {
        days -= days_of(year);
        year += 1;
    }
    let february = days_of(year) - 337;
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= months[month] {
        days -= months[month];
        month += 1;
    }
    (year, month, days + 1)
}

fn days_of(year: u64) -> u64 {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    365 + u64::from(is_leap)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn shown(seconds: u64) -> String {
        HttpDate::from(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, date) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (1_798_761_599, "Thu, 31 Dec 2026 23:59:59 GMT"),
            (LAST_SECOND, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(shown(seconds), date);
        }
    }

    #[test]
    fn a_time_that_no_header_can_show_is_the_nearest_that_one_can() {
        let before = UNIX_EPOCH - Duration::from_secs(1 << 40);
        assert_eq!(HttpDate::from(before).to_string(), shown(0));
        assert_eq!(shown(LAST_SECOND + 1), shown(LAST_SECOND));
        assert_eq!(shown(1 << 40).len(), 29);
    }
}
