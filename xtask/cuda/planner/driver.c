// A driver without a device that takes compiled code, so that cuDNN can plan for cards that are not here.
int cuInit(unsigned flags) { return 0; }

int cuDriverGetVersion(int *version) {
  *version = 13000;
  return 0;
}

int cuLibraryLoadData(void **library) {
  *library = (void *)1;
  return 0;
}

int cuLibraryUnload(void *library) { return 0; }

int cuLibraryGetKernel(void **kernel) {
  *kernel = (void *)1;
  return 0;
}
