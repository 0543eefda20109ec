//! How loud a track is, for the list of speakers: RFC 6464 levels, counted over windows.

/// Louder than this many -dBov counts as speech.
const ACTIVE_DBOV: u8 = 35;
/// Share of a window's packets that must be speech.
const ACTIVE_SHARE: f32 = 0.4;

/// See the module's page.
#[derive(Debug, Default)]
pub struct Loudness {
    packets: u32,
    active: u32,
    loudest: Option<u8>,
    smoothed: f32,
}

impl Loudness {
    /// One packet's level, in -dBov: 0 is the loudest, 127 silence.
    pub fn handle_level(&mut self, dbov: u8) {
        self.packets += 1;
        if dbov <= ACTIVE_DBOV {
            self.active += 1;
            self.loudest = Some(self.loudest.map_or(dbov, |loudest| loudest.min(dbov)));
        }
    }

    /// Ends a window; the level, 0 (silent) to 1, smoothed over two windows. Zero as soon as somebody falls silent.
    pub fn close_window(&mut self) -> f32 {
        let speaking = self.packets > 0 && self.active as f32 >= self.packets as f32 * ACTIVE_SHARE;
        let level = match self.loudest {
            Some(dbov) if speaking => 10_f32.powf(-f32::from(dbov) / 20.0),
            _ => 0.0,
        };
        let smoothed =
            if level == 0.0 || self.smoothed == 0.0 { level } else { f32::midpoint(level, self.smoothed) };
        *self = Loudness { smoothed, ..Loudness::default() };
        smoothed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cough_is_no_speech_and_silence_ends_it_at_once() {
        let mut loudness = Loudness::default();
        for n in 0..20 {
            loudness.handle_level(if n < 5 { 10 } else { 90 });
        }
        assert!(loudness.close_window().abs() < f32::EPSILON, "5 of 20 packets");
        for _ in 0..20 {
            loudness.handle_level(20);
        }
        assert!((loudness.close_window() - 0.1).abs() < 0.001);
        for _ in 0..20 {
            loudness.handle_level(127);
        }
        assert!(loudness.close_window().abs() < f32::EPSILON);
        assert!(loudness.close_window().abs() < f32::EPSILON, "no packets at all");
    }
}
