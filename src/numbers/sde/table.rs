//! A process that somebody wrote down.

use super::Sde;
use crate::{Error, numbers::registry::entry};

entry! {
    name: "table",
    what: "rows [t, α, s] of any other",
    source: "",
    example: "{kind: table, rows: [[0, 1, 0.01], [1, 0.5, 0.9]]}",
    /// Rows (t, α, s) of any process, in the order of time; between them ln α and ln σ are linear in t.
    ///
    /// f and g² are then the slopes of the row's interval: f = d ln α/dt, g² = 2 s² d ln σ/dt.
    pub struct Table {
        /// \[t, α(t), s(t)\], at least two, with t and s/α growing and all α and s positive.
        pub rows: Vec<[f64; 3]> => "t ≥ 0 and s/α growing, α and s > 0",
    }
}

impl Table {
    /// The rows before and after that place, and how far between them.
    fn between(&self, place: f64, key: impl Fn(&[f64; 3]) -> f64) -> ([f64; 3], [f64; 3], f64) {
        let last = self.rows.len() - 1;
        let above = self.rows.partition_point(|row| key(row) < place).clamp(1, last);
        let (low, high) = (self.rows[above - 1], self.rows[above]);
        (low, high, (place - key(&low)) / (key(&high) - key(&low)))
    }

    fn at(&self, t: f64, coordinate: impl Fn(&[f64; 3]) -> f64) -> f64 {
        let (low, high, part) = self.between(t, |row| row[0]);
        coordinate(&low) + part * (coordinate(&high) - coordinate(&low))
    }

    fn slope(&self, t: f64, coordinate: impl Fn(&[f64; 3]) -> f64) -> f64 {
        let (low, high, _) = self.between(t, |row| row[0]);
        (coordinate(&high) - coordinate(&low)) / (high[0] - low[0])
    }
}

fn log_alpha(row: &[f64; 3]) -> f64 {
    row[1].ln()
}

fn log_level(row: &[f64; 3]) -> f64 {
    row[2].ln() - row[1].ln()
}

impl Sde for Table {
    fn check(&self) -> Result<(), Error> {
        if self.rows.len() < 2 {
            return Err(Error::parameter("rows", "at least two lists [t, α, s]", self.rows.len()));
        }
        let sound = |row: &[f64; 3]| row.iter().all(|x| x.is_finite()) && row[0] >= 0.0 && row[1] > 0.0 && row[2] > 0.0;
        if let Some(row) = self.rows.iter().find(|row| !sound(row)) {
            return Err(Error::parameter("rows", "finite, with t ≥ 0 and with α and s positive", format!("{row:?}")));
        }
        let rises = |pair: &[[f64; 3]]| pair[0][0] < pair[1][0] && log_level(&pair[0]) < log_level(&pair[1]);
        match self.rows.windows(2).find(|pair| !rises(pair)) {
            Some(pair) => {
                let value = format!("{:?} before {:?}", pair[0], pair[1]);
                Err(Error::parameter("rows", "in the order of time, with a growing s/α", value))
            }
            None => Ok(()),
        }
    }

    fn alpha(&self, t: f64) -> f64 {
        self.at(t, log_alpha).exp()
    }

    fn level(&self, t: f64) -> f64 {
        self.at(t, log_level).exp()
    }

    fn time(&self, level: f64) -> f64 {
        // Levels that were computed from the table itself may miss its last by a rounding.
        if level > self.level(self.end()) * (1.0 + 1e-9) {
            return f64::NAN;
        }
        let (low, high, part) = self.between(level.ln(), log_level);
        low[0] + part * (high[0] - low[0])
    }

    fn drift(&self, t: f64) -> f64 {
        self.slope(t, log_alpha)
    }

    fn diffusion(&self, t: f64) -> f64 {
        2.0 * self.noise(t).powi(2) * self.slope(t, log_level)
    }

    fn end(&self) -> f64 {
        self.rows[self.rows.len() - 1][0]
    }
}
