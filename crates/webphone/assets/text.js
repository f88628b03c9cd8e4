// @ts-check
/** Text of strangers: characters that are invisible, or that reorder the text, are shown as marks. */

/**
 * Control characters, and those that are invisible or change the direction of writing. Line breaks are not among them.
 * The joiner of an emoji, such as that of a family, has an emoji on both sides.
 */
const HIDDEN =
    /(?<!\p{Extended_Pictographic}\ufe0f?)\u200d|\u200d(?!\p{Extended_Pictographic})|[\0-\x09\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b\u200c\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\u{e0000}-\u{e0fff}]/gu;

/**
 * A part of a text: one to show as it is, or the name of a hidden character.
 * @typedef {{ text: string } | { mark: string }} Part
 */

/**
 * Splits a text at its hidden characters.
 * @param {string} text
 * @returns {Part[]}
 */
export function splitHidden(text) {
    /** @type {Part[]} */
    const parts = [];
    let end = 0;
    for (const match of text.matchAll(HIDDEN)) {
        if (match.index > end) {
            parts.push({ text: text.slice(end, match.index) });
        }
        const code = /** @type {number} */ (match[0].codePointAt(0));
        parts.push({ mark: `U+${code.toString(16).toUpperCase().padStart(4, '0')}` });
        end = match.index + match[0].length;
    }
    if (end < text.length) {
        parts.push({ text: text.slice(end) });
    }
    return parts;
}

/**
 * Returns the time left as minutes and seconds, such as `4:12`.
 * @param {number} seconds
 */
export function timeLeft(seconds) {
    const left = Math.max(0, Math.ceil(seconds));
    return `${Math.floor(left / 60)}:${String(left % 60).padStart(2, '0')}`;
}

/**
 * Returns a name for this browser, such as `Chrome on Linux`.
 * @param {string} userAgent
 */
export function browserName(userAgent) {
    /** @param {[RegExp, string][]} names */
    const find = (names) => names.find(([pattern]) => pattern.test(userAgent))?.[1];
    const browser = find([
        [/Edg/, 'Edge'],
        [/OPR/, 'Opera'],
        [/SamsungBrowser/, 'Samsung Internet'],
        [/Firefox|FxiOS/, 'Firefox'],
        [/Chrome|CriOS/, 'Chrome'],
        [/Safari/, 'Safari'],
    ]);
    const system = find([
        [/Android/, 'Android'],
        [/iPhone/, 'iPhone'],
        [/iPad/, 'iPad'],
        [/CrOS/, 'ChromeOS'],
        [/Windows/, 'Windows'],
        [/Mac OS/, 'Mac'],
        [/Linux/, 'Linux'],
    ]);
    return [browser ?? 'Browser', system].filter(Boolean).join(' on ');
}
