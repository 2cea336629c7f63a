//! Schedules of a rate over a run: of the learning rate, and of the target transition rate.

/// How a rate changes over a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Schedule {
    /// It does not.
    Constant,
    /// Half a cosine from the base to 0.
    #[default]
    Cosine,
    /// Times `gamma` at each milestone, a fraction of the run.
    Step {
        /// Fractions of the run, 0 to 1.
        milestones: Vec<f32>,
        /// The factor.
        gamma: f32,
    },
}

impl Schedule {
    /// The rate at `step` of `total`.
    ///
    /// ```
    /// use fixnet_nn::optim::Schedule;
    /// assert_eq!(Schedule::Cosine.at(0.1, 0, 100), 0.1);
    /// assert!((Schedule::Cosine.at(0.1, 50, 100) - 0.05).abs() < 1e-9);
    /// ```
    pub fn at(&self, base: f64, step: u64, total: u64) -> f64 {
        let share = if total == 0 { 0.0 } else { step.min(total) as f64 / total as f64 };
        match self {
            Self::Constant => base,
            Self::Cosine => base * 0.5 * (1.0 + libm::cos(std::f64::consts::PI * share)),
            Self::Step { milestones, gamma } => {
                let passed = milestones.iter().filter(|&&m| f64::from(m) <= share).count();
                base * libm::pow(f64::from(*gamma), passed as f64)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_by_hand() {
        let step = Schedule::Step { milestones: vec![0.5, 0.75], gamma: 0.5 };
        let at = |s: u64| step.at(0.8, s, 100);
        assert_eq!([at(0), at(49), at(50), at(74), at(75), at(100)], [0.8, 0.8, 0.4, 0.4, 0.2, 0.2]);
        assert_eq!(Schedule::Constant.at(0.3, 7, 9), 0.3);
        assert!(Schedule::Cosine.at(0.1, 100, 100).abs() < 1e-12);
        assert!(Schedule::Cosine.at(0.1, 120, 100).abs() < 1e-12);
    }
}
