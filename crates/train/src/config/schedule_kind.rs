//! The form of a schedule as a recipe names it.

use fixnet_nn::optim::{Curve, Schedule, schedules};
use std::fmt;
use std::str::FromStr;

/// The form of a schedule, by its name: a curve, or `step`, which has settings of its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ScheduleKind {
    /// The rate follows a curve of [`schedules`].
    Curve(Curve),
    /// The rate is multiplied by a factor at milestones.
    Step,
}

impl ScheduleKind {
    const STEP: &'static str = "step";

    /// Returns the names of all forms.
    pub fn names() -> Vec<&'static str> {
        schedules().iter().map(|curve| curve.name).chain([Self::STEP]).collect()
    }
}

impl fmt::Display for ScheduleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Curve(curve) => curve.name,
            Self::Step => Self::STEP,
        })
    }
}

impl FromStr for ScheduleKind {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match schedules().into_iter().find(|curve| curve.name == text) {
            _ if text == Self::STEP => Ok(Self::Step),
            Some(curve) => Ok(Self::Curve(curve)),
            None => Err(format!("expected one of {}, found {text}", Self::names().join(", "))),
        }
    }
}

/// A curve that comes with fixnet.
pub(super) fn curve(schedule: Schedule) -> ScheduleKind {
    match schedule {
        Schedule::Curve(curve) => ScheduleKind::Curve(curve),
        _ => ScheduleKind::Step,
    }
}
