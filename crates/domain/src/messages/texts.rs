//! The default texts of messages, in every installed language. Their variables have the same names as in templates.

use crate::locales::Locale;

/// The default texts of one language.
pub(super) struct Texts {
    /// Text of a text message.
    pub(super) message: &'static str,
    /// Text of a text message that confirms a payment.
    pub(super) payment: &'static str,
    /// Sentence that follows a text message if the service warns of sharing the code.
    pub(super) warning: &'static str,
    /// Introduction of a code that stands apart from it.
    pub(super) introduction: &'static str,
    /// Introduction of a code that confirms a payment.
    pub(super) payment_introduction: &'static str,
    /// Subject of a mail.
    pub(super) subject: &'static str,
    /// Last paragraph of a mail.
    pub(super) mail_end: &'static str,
    /// What a voice says in a call.
    pub(super) call: &'static str,
    /// Text of a call that asks for a key before it says the code.
    pub(super) key_prompt: &'static str,
}

const ENGLISH: Texts = Texts {
    message: "{{friendly_name}}: {{code}} is your code.",
    payment: "{{friendly_name}}: {{code}} is your code to pay {{amount}} to {{payee}}.",
    warning: "Do not share it with anyone.",
    introduction: "Your code for {{friendly_name}}:",
    payment_introduction: "Your code for {{friendly_name}}, to pay {{amount}} to {{payee}}:",
    subject: "Your code for {{friendly_name}}",
    mail_end: "It is valid for {{ttl}} min. If you did not request it, you can ignore this mail.",
    call: "Hello. Your code for {{friendly_name}} is: {{code}}.",
    key_prompt: "Hello. This is {{friendly_name}}. Press any key to hear your code.",
};

const GERMAN: Texts = Texts {
    message: "{{friendly_name}}: {{code}} ist Ihr Code.",
    payment: "{{friendly_name}}: {{code}} ist Ihr Code für die Zahlung von {{amount}} an {{payee}}.",
    warning: "Geben Sie ihn an niemanden weiter.",
    introduction: "Ihr Code für {{friendly_name}}:",
    payment_introduction: "Ihr Code für {{friendly_name}} zur Zahlung von {{amount}} an {{payee}}:",
    subject: "Ihr Code für {{friendly_name}}",
    mail_end: "Er ist {{ttl}} Min. gültig. Wenn Sie ihn nicht angefordert haben, ignorieren Sie diese E-Mail.",
    call: "Guten Tag. Ihr Code für {{friendly_name}} lautet: {{code}}.",
    key_prompt: "Guten Tag. Hier ist {{friendly_name}}. Drücken Sie eine beliebige Taste, um Ihren Code zu hören.",
};

const SPANISH: Texts = Texts {
    message: "{{friendly_name}}: {{code}} es su código.",
    payment: "{{friendly_name}}: {{code}} es su código para pagar {{amount}} a {{payee}}.",
    warning: "No lo comparta con nadie.",
    introduction: "Su código de {{friendly_name}}:",
    payment_introduction: "Su código de {{friendly_name}} para pagar {{amount}} a {{payee}}:",
    subject: "Su código de {{friendly_name}}",
    mail_end: "Es válido durante {{ttl}} min. Si no lo ha solicitado, ignore este correo.",
    call: "Hola. Su código de {{friendly_name}} es: {{code}}.",
    key_prompt: "Hola. Le llama {{friendly_name}}. Pulse cualquier tecla para escuchar su código.",
};

const FRENCH: Texts = Texts {
    message: "{{friendly_name}} : {{code}} est votre code.",
    payment: "{{friendly_name}} : {{code}} est votre code pour payer {{amount}} à {{payee}}.",
    warning: "Ne le communiquez à personne.",
    introduction: "Votre code {{friendly_name}} :",
    payment_introduction: "Votre code {{friendly_name}} pour payer {{amount}} à {{payee}} :",
    subject: "Votre code {{friendly_name}}",
    mail_end: "Il est valable {{ttl}} min. Si vous ne l'avez pas demandé, ignorez cet e-mail.",
    call: "Bonjour. Votre code {{friendly_name}} est : {{code}}.",
    key_prompt: "Bonjour. Ici {{friendly_name}}. Appuyez sur une touche pour entendre votre code.",
};

const ITALIAN: Texts = Texts {
    message: "{{friendly_name}}: {{code}} è il tuo codice.",
    payment: "{{friendly_name}}: {{code}} è il tuo codice per pagare {{amount}} a {{payee}}.",
    warning: "Non comunicarlo a nessuno.",
    introduction: "Il tuo codice per {{friendly_name}}:",
    payment_introduction: "Il tuo codice per {{friendly_name}}, per pagare {{amount}} a {{payee}}:",
    subject: "Il tuo codice per {{friendly_name}}",
    mail_end: "È valido per {{ttl}} min. Se non l'hai richiesto, ignora questa e-mail.",
    call: "Buongiorno. Il tuo codice per {{friendly_name}} è: {{code}}.",
    key_prompt: "Buongiorno. Qui è {{friendly_name}}. Premi un tasto qualsiasi per ascoltare il tuo codice.",
};

const BRAZILIAN: Texts = Texts {
    message: "{{friendly_name}}: {{code}} é o seu código.",
    payment: "{{friendly_name}}: {{code}} é o seu código para pagar {{amount}} a {{payee}}.",
    warning: "Não o compartilhe com ninguém.",
    introduction: "Seu código para {{friendly_name}}:",
    payment_introduction: "Seu código para {{friendly_name}}, para pagar {{amount}} a {{payee}}:",
    subject: "Seu código para {{friendly_name}}",
    mail_end: "Ele é válido por {{ttl}} min. Se você não o solicitou, ignore este e-mail.",
    call: "Olá. Seu código para {{friendly_name}} é: {{code}}.",
    key_prompt: "Olá. Aqui é {{friendly_name}}. Pressione qualquer tecla para ouvir o seu código.",
};

const DUTCH: Texts = Texts {
    message: "{{friendly_name}}: {{code}} is uw code.",
    payment: "{{friendly_name}}: {{code}} is uw code om {{amount}} aan {{payee}} te betalen.",
    warning: "Deel deze code met niemand.",
    introduction: "Uw code voor {{friendly_name}}:",
    payment_introduction: "Uw code voor {{friendly_name}} om {{amount}} aan {{payee}} te betalen:",
    subject: "Uw code voor {{friendly_name}}",
    mail_end: "De code is {{ttl}} min. geldig. Hebt u er niet om gevraagd, negeer dan deze e-mail.",
    call: "Hallo. Uw code voor {{friendly_name}} is: {{code}}.",
    key_prompt: "Hallo. U spreekt met {{friendly_name}}. Druk op een toets om uw code te horen.",
};

const POLISH: Texts = Texts {
    message: "{{friendly_name}}: {{code}} to Twój kod.",
    payment: "{{friendly_name}}: {{code}} to Twój kod do płatności. Kwota: {{amount}}, odbiorca: {{payee}}.",
    warning: "Nie udostępniaj go nikomu.",
    introduction: "Twój kod {{friendly_name}}:",
    payment_introduction: "Twój kod {{friendly_name}} do płatności (kwota: {{amount}}, odbiorca: {{payee}}):",
    subject: "Twój kod {{friendly_name}}",
    mail_end: "Kod jest ważny przez {{ttl}} min. Jeśli to nie Twoja prośba, zignoruj tę wiadomość.",
    call: "Dzień dobry. Twój kod {{friendly_name}} to: {{code}}.",
    key_prompt: "Dzień dobry. Tu {{friendly_name}}. Naciśnij dowolny klawisz, aby usłyszeć swój kod.",
};

/// Returns the default texts of a locale, or `None` if none are installed.
fn installed(locale: Locale) -> Option<&'static Texts> {
    Some(match locale.as_str() {
        "de" => &GERMAN,
        "en" | "en-GB" => &ENGLISH,
        "es" => &SPANISH,
        "fr" => &FRENCH,
        "it" => &ITALIAN,
        "nl" => &DUTCH,
        "pl" => &POLISH,
        "pt-BR" => &BRAZILIAN,
        _ => return None,
    })
}

/// Returns the default texts for messages of a locale, and the locale of these texts: another one of the same language,
/// or English, if none are installed.
pub(super) fn nearest(locale: Locale) -> (&'static Texts, Locale) {
    let used = locale.default_text().unwrap_or(Locale::ENGLISH);
    installed(used).map_or((&ENGLISH, Locale::ENGLISH), |texts| (texts, used))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::variables;

    #[test]
    fn texts_exist_for_exactly_the_installed_locales() {
        for locale in Locale::all() {
            assert_eq!(installed(locale).is_some(), locale.is_installed(), "{locale}");
            assert!(nearest(locale).1.is_installed(), "{locale}");
        }
        let of = |tag| nearest(Locale::from_tag(tag).unwrap()).1.as_str();
        assert_eq!((of("pt"), of("tr"), of("en-GB")), ("pt-BR", "en", "en-GB"));
    }

    #[test]
    fn texts_of_all_languages_have_the_same_variables() {
        for locale in Locale::all().filter(|locale| locale.is_installed()) {
            let texts = nearest(locale).0;
            for (text, english) in [
                (texts.message, ENGLISH.message),
                (texts.payment, ENGLISH.payment),
                (texts.warning, ENGLISH.warning),
                (texts.introduction, ENGLISH.introduction),
                (texts.payment_introduction, ENGLISH.payment_introduction),
                (texts.subject, ENGLISH.subject),
                (texts.mail_end, ENGLISH.mail_end),
                (texts.call, ENGLISH.call),
                (texts.key_prompt, ENGLISH.key_prompt),
            ] {
                let names = |text| variables::names(text).collect::<BTreeSet<_>>();
                assert_eq!(names(text), names(english), "{locale}: {text}");
                // With the longest names, a text message has at most 500 characters.
                assert!(text.chars().count() < 120, "{locale}: {text}");
            }
        }
    }
}
