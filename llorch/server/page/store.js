// Chats in the browser's IndexedDB; in memory where the browser forbids it.

const DATABASE = "llorch";
const CHATS = "chats";

/** A store with `all`, `put`, `remove` and `clear`; `isLasting` says whether it outlives the page. */
export async function openStore() {
  try {
    return lasting(await promised(openRequest()));
  } catch {
    return passing();
  }
}

function openRequest() {
  const request = indexedDB.open(DATABASE, 1);
  request.onupgradeneeded = () => request.result.createObjectStore(CHATS, { keyPath: "id" });
  return request;
}

function promised(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("blocked"));
  });
}

function lasting(database) {
  database.onversionchange = () => database.close(); // a newer page in another tab
  /** Done when the transaction is: only then is the data kept, and a full disk known. */
  function write(change) {
    return new Promise((resolve, reject) => {
      const transaction = database.transaction(CHATS, "readwrite");
      transaction.oncomplete = () => resolve();
      transaction.onabort = () => reject(transaction.error);
      change(transaction.objectStore(CHATS));
    });
  }
  return {
    isLasting: true,
    all: () => promised(database.transaction(CHATS).objectStore(CHATS).getAll()),
    put: async conversation => write(chats => chats.put(conversation)),
    remove: async id => write(chats => chats.delete(id)),
    clear: async () => write(chats => chats.clear()),
  };
}

function passing() {
  return { isLasting: false, all: async () => [], put: async () => {}, remove: async () => {}, clear: async () => {} };
}
