// @ts-check
/** Enrollment links, such as `https://verify.example.com/phone/#t=TOKEN&s=VA…&i=user-0001`. */

/**
 * The permission to enroll this browser, which an enrollment link carries.
 * @typedef {object} Grant
 * @property {string} token the access token, which is valid once and for a few minutes
 * @property {string} serviceSid the service that the token is for
 * @property {string} identity the user whom the token is for
 */

/**
 * Returns the grant in a fragment, or `null` if it is not that of an enrollment link.
 * @param {string} fragment with or without the leading `#`
 * @returns {Grant | null}
 */
export function parseGrant(fragment) {
    const fields = new URLSearchParams(fragment.replace(/^#/, ''));
    const [token, serviceSid, identity] = ['t', 's', 'i'].map((name) => fields.get(name) ?? '');
    const isComplete =
        /^[\w.-]+$/.test(token) && /^VA[0-9a-f]{32}$/.test(serviceSid) && /^[\w-]{8,64}$/.test(identity);
    return isComplete ? { token, serviceSid, identity } : null;
}

/**
 * Returns whether a fragment is meant as an enrollment link, complete or not.
 * @param {string} fragment
 */
export function isLink(fragment) {
    return new URLSearchParams(fragment.replace(/^#/, '')).has('t');
}

/**
 * Returns the grant in a pasted text.
 * @param {string} text a link, or only its fragment
 * @param {string} pageUrl address of this page
 * @returns {Grant | 'invalid' | 'foreign'} `foreign` if the link leads to another server
 */
export function parsePasted(text, pageUrl) {
    const link = text.trim();
    if (link.startsWith('#')) {
        return parseGrant(link) ?? 'invalid';
    }
    let url;
    try {
        url = new URL(link);
    } catch {
        return 'invalid';
    }
    const grant = parseGrant(url.hash);
    if (!grant) {
        return 'invalid';
    }
    return url.origin === new URL(pageUrl).origin ? grant : 'foreign';
}
