// @ts-check
/**
 * Keys and signatures of the device protocol: docs/protocol/device.md, sections 4 and 5.
 *
 * The private key cannot be exported: WebCrypto signs with it, and no script can read it.
 */

const KEY = { name: 'ECDSA', namedCurve: 'P-256' };
const SIGNATURE = { name: 'ECDSA', hash: 'SHA-256' };

/** How long a device token is valid, in seconds. */
const TOKEN_SECONDS = 600;

/** Length of each of the two numbers of a P-256 signature, in bytes. */
const NUMBER_BYTES = 32;

const utf8 = new TextEncoder();

/**
 * Returns a new key pair, whose private key cannot be exported.
 * @returns {Promise<CryptoKeyPair>}
 */
export function generateKeyPair() {
    return crypto.subtle.generateKey(KEY, false, ['sign']);
}

/**
 * Returns a public key as the server expects it: DER SubjectPublicKeyInfo in standard base64.
 * @param {CryptoKey} publicKey
 */
export async function exportPublicKey(publicKey) {
    return toBase64(new Uint8Array(await crypto.subtle.exportKey('spki', publicKey)));
}

/**
 * Returns the proof with which a factor is verified: the DER signature of its SID in standard base64.
 * @param {CryptoKey} privateKey
 * @param {string} factorSid
 */
export async function signFactorSid(privateKey, factorSid) {
    return toBase64(toDer(await sign(privateKey, factorSid)));
}

/**
 * Returns a device token, which authenticates one request.
 * @param {{ key: CryptoKey, credentialSid: string, accountSid: string }} enrollment
 * @param {number} now the server's time, in seconds since 1970
 */
export function signDeviceToken({ key, credentialSid, accountSid }, now) {
    const header = { cty: 'twilio-pba;v=1', kid: credentialSid, typ: 'JWT', alg: 'ES256' };
    return signJwt(key, header, { sub: accountSid, exp: now + TOKEN_SECONDS, nbf: now });
}

/**
 * Returns the signed answer to a challenge.
 * @param {CryptoKey} privateKey
 * @param {Record<string, unknown>} challenge the challenge as the server sent it
 * @param {string} fieldNames value of the header `Twilio-Verify-Signature-Fields`
 * @param {'approved' | 'denied'} status
 * @throws {Error} if the header is empty, or names a field that the challenge does not have
 */
export function signAnswer(privateKey, challenge, fieldNames, status) {
    return signJwt(privateKey, { typ: 'JWT', alg: 'ES256' }, answerPayload(challenge, fieldNames, status));
}

/**
 * Returns what an answer signs: the named fields, copied from the challenge, with the new status.
 * @param {Record<string, unknown>} challenge
 * @param {string} fieldNames
 * @param {'approved' | 'denied'} status
 * @returns {Record<string, unknown>}
 */
export function answerPayload(challenge, fieldNames, status) {
    if (!fieldNames) {
        throw new Error('the server does not name the fields to sign');
    }
    const names = fieldNames.split(',');
    const missing = names.find((name) => !Object.hasOwn(challenge, name));
    if (missing !== undefined) {
        throw new Error(`the challenge has no ${missing}`);
    }
    return { ...Object.fromEntries(names.map((name) => [name, challenge[name]])), status };
}

/**
 * @param {CryptoKey} privateKey
 * @param {object} header
 * @param {object} payload
 */
async function signJwt(privateKey, header, payload) {
    const signed = [header, payload].map((part) => toBase64Url(utf8.encode(JSON.stringify(part)))).join('.');
    return `${signed}.${toBase64Url(await sign(privateKey, signed))}`;
}

/**
 * Returns the signature of a text as two numbers of 32 bytes.
 * @param {CryptoKey} privateKey
 * @param {string} text
 */
async function sign(privateKey, text) {
    return new Uint8Array(await crypto.subtle.sign(SIGNATURE, privateKey, utf8.encode(text)));
}

/**
 * Converts a signature of two numbers of 32 bytes to DER.
 * @param {Uint8Array} signature
 */
export function toDer(signature) {
    const numbers = [signature.subarray(0, NUMBER_BYTES), signature.subarray(NUMBER_BYTES)].flatMap(derInteger);
    return Uint8Array.from([0x30, numbers.length, ...numbers]);
}

/**
 * Returns an unsigned number as a DER INTEGER: without leading zeros, but with one if the first bit would mean a sign.
 * @param {Uint8Array} number
 * @returns {number[]}
 */
function derInteger(number) {
    const start = number.findIndex((byte) => byte !== 0);
    const digits = start < 0 ? [0] : [...number.subarray(start)];
    const padded = digits[0] & 0x80 ? [0, ...digits] : digits;
    return [0x02, padded.length, ...padded];
}

/** @param {Uint8Array} bytes */
export function toBase64(bytes) {
    return btoa(String.fromCharCode(...bytes));
}

/**
 * Returns base64 with the URL-safe alphabet and without padding.
 * @param {Uint8Array} bytes
 */
export function toBase64Url(bytes) {
    // In parts, because the number of arguments of a function is limited.
    const parts = [];
    for (let start = 0; start < bytes.length; start += 8190) {
        parts.push(toBase64(bytes.subarray(start, start + 8190)));
    }
    return parts.join('').replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');
}
