// @ts-check
/** The service worker, which keeps the page for when the server cannot be reached. */

const SCRIPT = 'sw.js';

/** Registers the service worker. The page works without it, so a failure only means that it does not start offline. */
export async function registerServiceWorker() {
    try {
        await navigator.serviceWorker?.register(trusted(SCRIPT));
    } catch (error) {
        console.warn('the page will not start without the server:', String(error));
    }
}

/**
 * Returns the URL in the form that the policy of the page requires. This is its only policy, and it permits one script.
 * @param {string} script
 */
function trusted(script) {
    // @ts-ignore: not in every browser
    const { trustedTypes } = globalThis;
    if (!trustedTypes) {
        return script;
    }
    const policy = trustedTypes.createPolicy('countersign-phone', {
        createScriptURL(/** @type {string} */ url) {
            if (url !== SCRIPT) {
                throw new TypeError('this script is not permitted');
            }
            return url;
        },
    });
    return policy.createScriptURL(script);
}
