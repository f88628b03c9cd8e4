//! QR codes as images and for terminals.

use std::fmt::Write as _;

use fast_qr::{ECL, QRBuilder};

/// Width of the empty border that a QR code needs, in modules (ISO/IEC 18004, section 6.3.8).
const BORDER: usize = 4;

/// Width of the border in a terminal, in modules. Cameras accept it, and 80 columns then suffice for a link.
const TERMINAL_BORDER: usize = 1;

/// A text that is too long for a QR code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text is too long for a QR code")]
pub struct TooLong;

/// A QR code: a square of dark and light modules.
pub struct QrCode {
    /// The rows; `true` is a dark module.
    rows: Vec<Vec<bool>>,
}

impl std::fmt::Debug for QrCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The modules are the text, which is a secret.
        f.debug_struct("QrCode").field("size", &self.rows.len()).finish_non_exhaustive()
    }
}

impl QrCode {
    /// Creates the QR code of a text, with the lowest level of error correction: on a screen, smaller codes are easier
    /// to scan.
    ///
    /// # Errors
    /// Returns an error if the text has more than 2953 bytes.
    pub fn new(text: &str) -> Result<Self, TooLong> {
        let code = QRBuilder::new(text).ecl(ECL::L).build().map_err(|_| TooLong)?;
        let rows = (0..code.size).map(|row| code[row].iter().map(|module| module.value()).collect());
        Ok(Self { rows: rows.collect() })
    }

    /// Returns the code as an SVG image, dark on white, without scripts and styles.
    pub fn svg(&self) -> String {
        let size = self.rows.len() + 2 * BORDER;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {size} {size}\" role=\"img\" \
             shape-rendering=\"crispEdges\"><title>QR code to enroll a phone</title>\
             <path fill=\"#fff\" d=\"M0 0h{size}v{size}H0z\"/><path d=\""
        );
        for (y, row) in self.rows.iter().enumerate() {
            let mut x = 0;
            // One rectangle for each run of dark modules.
            for run in row.chunk_by(|module, next| module == next) {
                if run[0] {
                    // Writing to a `String` cannot fail.
                    let _ =
                        write!(svg, "M{} {}h{width}v1h-{width}z", x + BORDER, y + BORDER, width = run.len());
                }
                x += run.len();
            }
        }
        svg.push_str("\"/></svg>\n");
        svg
    }

    /// Returns the width of [`terminal_lines`](Self::terminal_lines), in columns.
    pub fn terminal_width(&self) -> usize {
        self.rows.len() + 2 * TERMINAL_BORDER
    }

    /// Returns the code as lines of text. A character shows two modules, one above the other. Light modules have the
    /// foreground color, because most terminals have a dark background.
    pub fn terminal_lines(&self) -> Vec<String> {
        let width = self.terminal_width();
        // Outside of the code, everything is light.
        let is_light = |x: usize, y: usize| {
            let row = y.checked_sub(TERMINAL_BORDER).and_then(|y| self.rows.get(y));
            !x.checked_sub(TERMINAL_BORDER).and_then(|x| row?.get(x)).copied().unwrap_or(false)
        };
        let line = |y: usize| {
            (0..width)
                .map(|x| match (is_light(x, y), is_light(x, y + 1)) {
                    (true, true) => '█',
                    (true, false) => '▀',
                    (false, true) => '▄',
                    (false, false) => ' ',
                })
                .collect()
        };
        (0..width).step_by(2).map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Length of an access token for an identity of 16 characters, in bytes.
    const TOKEN_BYTES: usize = 388;

    fn link() -> String {
        let fragment = format!("t={}&s=VA{:032}&i=user-0001-abcdef", "x".repeat(TOKEN_BYTES), 2);
        format!("https://verify.example.com/phone/#{fragment}")
    }

    /// Returns the dark modules that an image or a text shows, by row and column of the code.
    fn dark_modules(code: &QrCode) -> Vec<(usize, usize)> {
        let dark = |(y, row): (usize, &Vec<bool>)| {
            row.iter().enumerate().filter(|(_, module)| **module).map(|(x, _)| (x, y)).collect::<Vec<_>>()
        };
        code.rows.iter().enumerate().flat_map(dark).collect()
    }

    #[test]
    fn code_of_a_link_fits_into_80_columns() {
        let code = QrCode::new(&link()).unwrap();
        assert_eq!((code.rows.len(), code.terminal_width()), (77, 79));
        let lines = code.terminal_lines();
        assert_eq!(lines.len(), 40);
        assert!(lines.iter().all(|line| line.chars().count() == 79));
    }

    #[test]
    fn terminal_shows_exactly_the_dark_modules() {
        let code = QrCode::new("countersign").unwrap();
        let mut shown = Vec::new();
        for (row, line) in code.terminal_lines().iter().enumerate() {
            for (x, character) in line.chars().enumerate() {
                let (top, bottom) = match character {
                    '█' => (false, false),
                    '▀' => (false, true),
                    '▄' => (true, false),
                    ' ' => (true, true),
                    other => panic!("{other}"),
                };
                for (y, is_dark) in [(2 * row, top), (2 * row + 1, bottom)] {
                    if is_dark {
                        shown.push((x - TERMINAL_BORDER, y - TERMINAL_BORDER));
                    }
                }
            }
        }
        shown.sort_by_key(|(x, y)| (*y, *x));
        assert_eq!(shown, dark_modules(&code));
    }

    #[test]
    fn image_shows_exactly_the_dark_modules() {
        let code = QrCode::new("countersign").unwrap();
        let svg = code.svg();
        let path = svg.split("d=\"").nth(2).unwrap().split('"').next().unwrap();
        let mut shown = Vec::new();
        for rectangle in path.split_terminator('z') {
            let numbers: Vec<usize> =
                rectangle.split(['M', ' ', 'h', 'v', '-']).filter_map(|part| part.parse().ok()).collect();
            let [x, y, width, 1, _] = numbers[..] else { panic!("{rectangle}") };
            shown.extend((x..x + width).map(|x| (x - BORDER, y - BORDER)));
        }
        assert_eq!(shown, dark_modules(&code));
        assert!(!svg.contains("style") && !svg.contains("script"));
    }

    #[test]
    fn text_over_2953_bytes_is_refused() {
        assert!(QrCode::new(&"x".repeat(2953)).is_ok());
        assert_eq!(QrCode::new(&"x".repeat(2954)).unwrap_err(), TooLong);
    }
}
