// MER Algorithm 1 in single steps, by hand: what `dual.c` is held against. One network shape, 784-100-100-10, padded.
#include <math.h>
#include <string.h>
#include <stdint.h>
#define H 112
#define K 16
typedef float v16 __attribute__((vector_size(64)));
#define NV (H/16)
void sgd_seq(const int64_t*order,int64_t n,const int64_t*ptr,const int16_t*idx,const float*val,const int64_t*Y,
 float*W1,float*b1,float*W2,float*b2,float*W3,float*b3,float lr,int nk){
 for(int64_t q=0;q<n;q++){
  int64_t i=order[q],s=ptr[i],e=ptr[i+1];
  v16 a[NV]; for(int c=0;c<NV;c++) a[c]=((v16*)b1)[c];
  for(int64_t p=s;p<e;p++){ v16 v=val[p]-(v16){}; const v16*r=(v16*)(W1+(int64_t)idx[p]*H); for(int c=0;c<NV;c++) a[c]+=v*r[c]; }
  float a1[H] __attribute__((aligned(64))),a2[H] __attribute__((aligned(64))),d1[H] __attribute__((aligned(64)));
  for(int c=0;c<NV;c++){ for(int u=0;u<16;u++) a[c][u]=a[c][u]>0?a[c][u]:0; ((v16*)a1)[c]=a[c]; }
  v16 bb[NV]; for(int c=0;c<NV;c++) bb[c]=((v16*)b2)[c];
  int act[H],na=0; for(int j=0;j<H;j++){ act[na]=j; na+=a1[j]>0; }
  for(int t=0;t<na;t++){ int j=act[t]; v16 v=a1[j]-(v16){}; v16*r=(v16*)(W2+j*H); for(int c=0;c<NV;c++) bb[c]+=v*r[c]; }
  for(int c=0;c<NV;c++){ for(int u=0;u<16;u++) bb[c][u]=bb[c][u]>0?bb[c][u]:0; ((v16*)a2)[c]=bb[c]; }
  int act2[H],nb=0; for(int j=0;j<H;j++){ act2[nb]=j; nb+=a2[j]>0; }
  v16 o=*(v16*)b3; 
  for(int t=0;t<nb;t++){int j=act2[t]; o+=(a2[j]-(v16){})*((v16*)W3)[j];}
  float oo[16]; memcpy(oo,&o,64); float m=oo[0]; for(int k=1;k<nk;k++) m=oo[k]>m?oo[k]:m; float z=0; for(int k=0;k<nk;k++){oo[k]=expf(oo[k]-m);z+=oo[k];} 
  for(int k=0;k<nk;k++)oo[k]/=z; for(int k=nk;k<16;k++)oo[k]=0; oo[Y[i]]-=1; for(int k=0;k<16;k++) oo[k]*=lr; memcpy(&o,oo,64);
  v16 d2v[NV]; memset(d2v,0,sizeof d2v); float*d2=(float*)d2v;
  for(int t=0;t<nb;t++){int j=act2[t]; v16*r=((v16*)W3)+j; v16 pr=*r*o; float d=0; for(int k=0;k<16;k++) d+=pr[k]; d2[j]=d; *r-=(a2[j]-(v16){})*o;}
  *(v16*)b3-=o;
  memset(d1,0,sizeof d1);
  v16 dd[NV]; for(int c=0;c<NV;c++) dd[c]=d2v[c];
  for(int t=0;t<na;t++){ int j=act[t]; v16*r=(v16*)(W2+j*H); v16 acc={}; v16 v=a1[j]-(v16){}; for(int c=0;c<NV;c++){ v16 w=r[c]; acc+=w*dd[c]; r[c]=w-v*dd[c]; } float d=0; for(int k=0;k<16;k++) d+=acc[k]; d1[j]=d; }
  for(int c=0;c<NV;c++) ((v16*)b2)[c]-=dd[c];
  for(int c=0;c<NV;c++) a[c]=((v16*)d1)[c];
  for(int64_t p=s;p<e;p++){ v16 v=val[p]-(v16){}; v16*r=(v16*)(W1+(int64_t)idx[p]*H); for(int c=0;c<NV;c++) r[c]-=v*a[c]; }
  for(int c=0;c<NV;c++) ((v16*)b1)[c]-=a[c];
 }
}
#include <stdlib.h>
static uint64_t S=88172645463325252ull; static inline uint64_t rnd(){S^=S<<13;S^=S>>7;S^=S<<17;return S*2685821657736338717ull;}
static inline int64_t below(int64_t n){return (int64_t)(((__uint128_t)rnd()*n)>>64);}
// order: stream; theta contiguous block; returns
void mer1(const int64_t*stream,int64_t n0,int64_t n1,const int64_t*ptr,const int16_t*idx,const float*val,const int64_t*Y,float*th,int64_t np_,int64_t*oW,float lr,float beta,float gamma,int64_t*mem,int64_t*msz,int64_t*age,int64_t cap,int k,int steps,int nk,float*A,float*B,uint64_t seed,const uint16_t*unused){
 if(n0==0) S^=seed*0x9E3779B97F4A7C15ull;
 int64_t ord[2048];
 for(int64_t i=n0;i<n1;i++){
  (*age)++;
  if(gamma!=1.f) memcpy(A,th,np_*4);
  for(int st=0;st<steps;st++){
   memcpy(B,th,np_*4);
   int64_t m=0; ord[m++]=stream[i]; int64_t z=*msz<k?*msz:k; for(int j=0;j<z;j++) ord[m++]=mem[below(*msz)];
   sgd_seq(ord,m,ptr,idx,val,Y,th+oW[0],th+oW[1],th+oW[2],th+oW[3],th+oW[4],th+oW[5],lr,nk);
   for(int64_t q=0;q<np_;q++) th[q]=B[q]+beta*(th[q]-B[q]);
  }
  if(gamma!=1.f) for(int64_t q=0;q<np_;q++) th[q]=A[q]+gamma*(th[q]-A[q]);
  if(*msz<cap) mem[(*msz)++]=stream[i]; else {int64_t p=below(*age); if(p<cap) mem[p]=stream[i];}
 }
}
