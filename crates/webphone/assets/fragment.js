// @ts-check
/** The fragment of the address, which may contain an access token. */

let taken = remove();

/** Removes the fragment from the address bar and from the history of this window. */
function remove() {
    const fragment = location.hash;
    if (fragment) {
        history.replaceState(null, '', location.pathname);
    }
    return fragment;
}

/** Returns the fragment with which the page was opened, once. It is not in the address bar anymore. */
export function takeFragment() {
    const fragment = remove() || taken;
    taken = '';
    return fragment;
}
