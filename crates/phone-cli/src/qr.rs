//! The command `countersign device qr`: the link that enrolls a browser, as a QR code.

use clap::Args;
use domain::{Identity, Secret, ServiceSid};
use enrollment_link::{EnrollmentLink, QrCode};
use terminal::{CliError, is_colored, say, warn, width, write};

use crate::parameters::{parameter, parse_secret, read_secret};

/// Options of `countersign device qr`.
#[derive(Debug, Args)]
pub(crate) struct Qr {
    /// URL at which the browser reaches the server. A browser on another machine needs https
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,

    /// SID of the service to enroll with (VA…)
    #[arg(long, value_name = "SID", value_parser = parameter::<ServiceSid>)]
    service: ServiceSid,

    /// Identity of the user, exactly as your backend sent it to the server
    #[arg(long, value_parser = parameter::<Identity>)]
    identity: Identity,

    /// Access token that your backend created for this user, or - to read it from standard input. On a shared
    /// machine, use - or the environment variable, because other users can see command arguments
    #[arg(long, env = "COUNTERSIGN_ACCESS_TOKEN", hide_env_values = true, value_parser = parse_secret)]
    token: Secret<String>,
}

/// Prints the QR code, and the link below it. A terminal that is too narrow for the code gets only the link.
pub(crate) fn run(options: Qr) -> Result<(), CliError> {
    let token = read_secret(options.token, "access token")?;
    let link = EnrollmentLink::new(&options.url, token.expose(), options.service, &options.identity);
    let code = link.qr_code().map_err(|too_long| CliError::new(too_long.to_string()))?;
    let stdout = std::io::stdout();
    match width(&stdout).filter(|columns| *columns < code.terminal_width()) {
        Some(columns) => warn(format_args!(
            "the QR code needs {} columns, but the terminal has {columns}; make it wider, or open the link",
            code.terminal_width()
        )),
        None => write(drawing(&code, is_colored(&stdout)).as_bytes())?,
    }
    say(link.expose())
}

/// Returns the code for a terminal. With colors it is white on black, whatever the terminal's own colors are.
fn drawing(code: &QrCode, is_colored: bool) -> String {
    let (start, end) = if is_colored { ("\x1b[97;40m", "\x1b[0m") } else { ("", "") };
    code.terminal_lines().iter().map(|line| format!("{start}{line}{end}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawing_sets_its_own_colors_if_it_may() {
        let code = QrCode::new("countersign").unwrap();
        let (plain, colored) = (drawing(&code, false), drawing(&code, true));
        assert!(!plain.contains('\x1b'));
        assert_eq!(colored.replace("\x1b[97;40m", "").replace("\x1b[0m", ""), plain);
        assert_eq!(plain.lines().count(), code.terminal_width().div_ceil(2));
    }
}
