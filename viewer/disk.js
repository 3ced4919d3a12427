// Chromium starts no worker from a blob: of a page that was opened from disk, but it does from a data: address. Perspective's
// charts draw in a worker that they hold as a text: for such pages it gets that address.

if (location.protocol === "file:") {
  const blobAddress = URL.createObjectURL;
  URL.createObjectURL = (blob) => {
    const address = blobAddress.call(URL, blob);
    if (blob.type !== "application/javascript") return address;
    const request = new XMLHttpRequest();
    request.open("GET", address, false); // in memory
    request.send();
    return `data:text/javascript,${encodeURIComponent(request.responseText)}`;
  };
}
